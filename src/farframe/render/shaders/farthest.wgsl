// The farthest (reversed-Z: least) depth of all samples of a square of pixels, one fragment per square.
#ifdef MULTISAMPLED
@group(1) @binding(0) var depth: texture_depth_multisampled_2d;
#else
@group(1) @binding(0) var depth: texture_depth_2d;
#endif

@fragment fn farthest(in: FullScreen) -> @location(0) f32 {
    let last = vec2i(textureDimensions(depth)) - 1;
    let first = vec2i(in.position.xy) * TILE;
    var least = 1.0;
    for (var y = 0; y < TILE; y++) {
        for (var x = 0; x < TILE; x++) {
            let pixel = min(first + vec2i(x, y), last);
#ifdef MULTISAMPLED
            for (var index = 0; index < 4; index++) {
                least = min(least, textureLoad(depth, pixel, index));
            }
#else
            least = min(least, textureLoad(depth, pixel, 0));
#endif
        }
    }
    return least;
}
