// Outlines around what is covered: drawn over the picture, outside of the silhouette, a constant number of pixels wide.
struct Outline {
    color: vec4f,  // display-referred; w: opacity
    width: vec4f,  // x: pixels
}
@group(1) @binding(0) var covered: texture_2d<f32>;
@group(1) @binding(1) var<uniform> outline: Outline;

@fragment fn fragment(in: FullScreen) -> @location(0) vec4f {
    let pixel = vec2i(in.position.xy);
    let width = outline.width.x;
    // Each view keeps to itself, and beyond the picture's edge goes on as at the edge.
    let left = i32(view.viewport.x + 0.5);
    let last = vec2i(left + i32(1.0 / view.viewport.z + 0.5), i32(textureDimensions(covered).y)) - 1;
    let own = textureLoad(covered, pixel, 0).r;
    // A pixel that is covered by a share c has the silhouette's edge c - 1/2 pixels from its middle, towards here.
    var distance = 64.0;
    for (var y = -REACH; y <= REACH; y++) {
        for (var x = -REACH; x <= REACH; x++) {
            let share = textureLoad(covered, clamp(pixel + vec2i(x, y), vec2i(left, 0), last), 0).r;
            let far = length(vec2f(f32(x), f32(y))) + 0.5 - share;
            distance = select(distance, min(distance, far), share > 0.0);
        }
    }
    let opacity = clamp(width + 0.5 - distance, 0.0, 1.0) * (1.0 - own);
    return vec4f(outline.color.rgb, opacity * outline.color.w);
}
