// Reversed-Z depth to metres along the view axis; infinity where nothing was drawn. One sample per pixel is exact,
// an average over an edge would be a distance at which there is nothing.
#ifdef MULTISAMPLED
@group(1) @binding(0) var depth: texture_depth_multisampled_2d;
#else
@group(1) @binding(0) var depth: texture_depth_2d;
#endif

@fragment fn linear_depth(in: FullScreen) -> @location(0) f32 {
    let d = textureLoad(depth, vec2i(in.position.xy), 0);
    let near = view.ray_dx.w;
    let far = view.ray_dy.w;
    if (d <= 0.0) {
        return view.backdrop_bottom.w;  // infinity; WGSL has no literal for it
    }
    if (view.eye.w > 0.0) {
        return far - d * (far - near);
    }
    return near * far / (d * (far - near) + near);
}
