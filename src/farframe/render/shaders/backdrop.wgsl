// The studio backdrop: a vertical gradient with a soft pool of light behind the model, like a lit infinity cove.
// Colours are display-referred (linear), so exposure and tone mapping leave them alone.

// Interleaved gradient noise (Jimenez 2014): breaks the bands that 8 bits would show in so slow a gradient.
fn dither(pixel: vec2f) -> f32 {
    return fract(52.9829189 * fract(dot(pixel, vec2f(0.06711056, 0.00583715)))) - 0.5;
}

@fragment fn backdrop(in: FullScreen) -> @location(0) vec4f {
    let uv = (in.position.xy - view.viewport.xy) * view.viewport.zw;
    let t = smoothstep(0.0, 1.0, uv.y);
    let from_center = (uv - vec2f(0.5, 0.58)) * vec2f(1.25, 1.5);
    let pool = 1.0 + view.backdrop_top.w * exp2(-4.0 * dot(from_center, from_center));
    let color = mix(view.backdrop_top.rgb, view.backdrop_bottom.rgb, t) * pool;
    return vec4f(color * (1.0 + dither(in.position.xy) * 0.008), 1.0);
}
