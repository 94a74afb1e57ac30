// The rare properties of materials. The layout is EXTRAS_DTYPE of materials.py; only variants with EXTRAS read it.
#ifdef EXTRAS
struct Extras {
    texcoord: vec4f,      // scale, offset
    fresnel: vec4f,       // colour, exponent
    fading: vec4f,        // of the colour that is seen, of opacity; share of highlights, of the vertex colour
    vertex_alpha: vec4f,  // how much of it dims the sky, all light, opacity
    blending: vec4f,      // how much reflections stay where a surface is transparent; how far it is additive
}
@group(2) @binding(0) var<storage, read> materials: array<Extras>;

// A glow that grows towards the silhouette, added to what is seen.
fn fresnel_glow(extras: Extras, n: vec3f, v: vec3f) -> vec3f {
    return extras.fresnel.rgb * pow(clamp(1.0 - abs(dot(n, v)), 1e-6, 1.0), extras.fresnel.w);
}
#endif
