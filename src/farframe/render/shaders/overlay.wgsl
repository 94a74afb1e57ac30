// Text in the upper left corner of a view, texel by pixel: how much of each is covered, on a dark plate.
@group(1) @binding(0) var text: texture_2d<f32>;
@group(1) @binding(1) var<uniform> place: vec4f;  // left and top in the target, opacity of the plate

@fragment fn fragment(in: FullScreen) -> @location(0) vec4f {
    let texel = vec2i(floor(in.position.xy - place.xy - vec2f(view.viewport.x, 0.0)));
    let covered = textureLoad(text, texel, 0).r;
    return vec4f(vec3f(covered), covered + (1.0 - covered) * place.z);
}
