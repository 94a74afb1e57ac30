// glTF 2.0 metallic-roughness. One source, specialised at compile time by the flags of pipelines.Variant: on a CPU
// adapter every instruction of a fragment counts, and a branch that is not taken still costs there.

struct VertexIn {
    @location(0) position: vec3f,
    @location(1) normal: vec4f,
#ifdef VERTEX_TANGENTS
    @location(2) tangent: vec4f,
#endif
#ifdef UV0
    @location(3) uv0: vec2f,
#endif
#ifdef UV1
    @location(4) uv1: vec2f,
#endif
#ifdef VERTEX_COLOR
    @location(5) color: vec4f,
#endif
    // Per instance: rows of the matrix from part space to origin-relative world space, then the material.
    @location(6) row0: vec4f,
    @location(7) row1: vec4f,
    @location(8) row2: vec4f,
    @location(9) base_color: vec4f,
    @location(10) surface: vec4f,   // metallic, roughness, normal scale, occlusion strength
#ifdef EMISSIVE_OR_MASK
    @location(11) emissive: vec4f,  // rgb; w: alpha cutoff
#endif
#ifdef TINT
    @location(12) tint: vec4f,      // display-referred; w: how much of it is seen
#endif
#ifdef EXTRAS
    @location(13) material: u32,
#endif
    @location(15) bias: f32,        // see z_fighting.py
#ifdef NUMBERS
    @builtin(instance_index) instance: u32,
#endif
#ifdef CUT
    @location(14) cut_mask: u32,    // which cut planes concern it
#endif
}

struct VertexOut {
#ifdef INVARIANT
    @invariant @builtin(position) position: vec4f,
#else
    @builtin(position) position: vec4f,
#endif
#ifdef NORMAL
#ifdef CENTROID
    // At a silhouette the pixel's middle may lie off the triangle: a normal from there points away from the eye and
    // catches lamps that are behind the surface.
    @location(0) @interpolate(perspective, centroid) normal: vec3f,
#else
    @location(0) normal: vec3f,
#endif
#endif
#ifndef UNLIT
    @location(1) @interpolate(flat) surface: vec4f,
#ifdef VERTEX_IRRADIANCE
    @location(8) irradiance: vec3f,
#endif
#endif
    @location(2) @interpolate(flat) base_color: vec4f,
#ifdef VERTEX_TANGENTS
    @location(3) tangent: vec4f,
#endif
#ifdef UV0
    @location(4) uv0: vec2f,
#endif
#ifdef UV1
    @location(5) uv1: vec2f,
#endif
#ifdef VERTEX_COLOR
    @location(6) color: vec4f,
#endif
#ifdef EMISSIVE_OR_MASK
    @location(7) @interpolate(flat) emissive: vec4f,
#endif
#ifdef TINT
    @location(9) @interpolate(flat) tint: vec4f,
#endif
#ifdef EXTRAS
    @location(10) @interpolate(flat) material: u32,
#endif
#ifdef NUMBERS
    @location(12) @interpolate(flat) number: vec4f,
#endif
#ifdef CUT
    @location(11) @interpolate(flat) cut_mask: u32,
#ifdef CLIPPED
    @builtin(clip_distances) cut: array<f32, CUT>,
#endif
#endif
}

@vertex fn vertex(in: VertexIn) -> VertexOut {
    let local = vec4f(in.position, 1.0);
    let world = vec4f(dot(in.row0, local), dot(in.row1, local), dot(in.row2, local), 1.0);
    var out: VertexOut;
    out.position = view.view_projection * world;
    out.position.z *= 1.0 + in.bias * view.environment.w;
#ifdef NUMBERS
    // What lies right below what is seen counts, too. Two numbers of eight bits, and one less each.
    out.position.z *= 1.0 + NUMBERS * view.environment.w;
    let hash = in.instance * 2654435769u;
    let number = vec2f(vec2u(hash >> 24u, (hash >> 16u) & 255u)) / 255.0;
    out.number = vec4f(number.x, 1.0 - number.x, number.y, 1.0 - number.y);
#endif
    out.base_color = in.base_color;
#ifdef EXTRAS
    out.material = in.material;
#endif
#ifndef UNLIT
    out.surface = in.surface;
#endif
#ifdef NORMAL
    // The cofactor matrix carries normals through any scale; it equals det * inverse transpose, so a mirror flips it.
    let n = vec3f(
        dot(cross(in.row1.xyz, in.row2.xyz), in.normal.xyz),
        dot(cross(in.row2.xyz, in.row0.xyz), in.normal.xyz),
        dot(cross(in.row0.xyz, in.row1.xyz), in.normal.xyz));
#ifdef MIRRORED
    out.normal = -n;
#else
    out.normal = n;
#endif
#ifdef VERTEX_IRRADIANCE
    out.irradiance = max(diffuse_irradiance(normalize(out.normal)), vec3f(0.0));
#endif
#endif
#ifdef VERTEX_TANGENTS
    let t = in.tangent.xyz;
    out.tangent = vec4f(dot(in.row0.xyz, t), dot(in.row1.xyz, t), dot(in.row2.xyz, t), sign(in.tangent.w));
#ifdef MIRRORED
    out.tangent.w = -out.tangent.w;
#endif
#endif
#ifdef UV0
#ifdef EXTRAS
    out.uv0 = in.uv0 * materials[in.material].texcoord.xy + materials[in.material].texcoord.zw;
#else
    out.uv0 = in.uv0;
#endif
#endif
#ifdef UV1
#ifdef EXTRAS
    out.uv1 = in.uv1 * materials[in.material].texcoord.xy + materials[in.material].texcoord.zw;
#else
    out.uv1 = in.uv1;
#endif
#endif
#ifdef VERTEX_COLOR
    out.color = in.color;
#endif
#ifdef EMISSIVE_OR_MASK
    out.emissive = in.emissive;
#endif
#ifdef TINT
    out.tint = in.tint;
#endif
#ifdef CUT
    out.cut_mask = in.cut_mask;
#ifdef CLIPPED
    // A fragment's struct must not have this: the vertices are a module of their own.
    for (var index = 0; index < CUT; index++) {
        out.cut[index] = cut_distance(index, world.xyz, in.cut_mask);
    }
#endif
#endif
    return out;
}

#ifdef BASE_COLOR_TEXTURE
@group(1) @binding(0) var base_color_texture: texture_2d<f32>;
@group(1) @binding(1) var base_color_sampler: sampler;
#endif
#ifdef METALLIC_ROUGHNESS_TEXTURE
@group(1) @binding(2) var metallic_roughness_texture: texture_2d<f32>;
@group(1) @binding(3) var metallic_roughness_sampler: sampler;
#endif
#ifdef NORMAL_TEXTURE
@group(1) @binding(4) var normal_texture: texture_2d<f32>;
@group(1) @binding(5) var normal_sampler: sampler;
#endif
#ifdef OCCLUSION_TEXTURE
@group(1) @binding(6) var occlusion_texture: texture_2d<f32>;
@group(1) @binding(7) var occlusion_sampler: sampler;
#endif
#ifdef EMISSIVE_TEXTURE
@group(1) @binding(8) var emissive_texture: texture_2d<f32>;
@group(1) @binding(9) var emissive_sampler: sampler;
#endif
#ifdef METALNESS_TEXTURE
@group(1) @binding(10) var metalness_texture: texture_2d<f32>;
@group(1) @binding(11) var metalness_sampler: sampler;
#endif
#ifdef EXTRAS
// What a fragment's material says beyond its numbers in the instance's row, set before anything is shaded: the share of
// diffuse light that stays where the surface is transparent, and that of highlights.
var<private> diffuse_share: f32 = 1.0;
var<private> highlights: f32 = 1.0;
#endif

// A tint is mixed into what is seen, after light and tone mapping: all of it hides what the part looked like.
fn tinted(in: VertexOut, color: vec3f) -> vec3f {
#ifdef TINT
    return mix(color, in.tint.rgb, in.tint.w);
#else
    return color;
#endif
}

// What is seen of a surface that nothing tints, from its colour as it would be without transparency. Its own
// transparency is taken account of already where a surface reflects in spite of it.
fn faded(in: VertexOut, color: vec3f, alpha: f32) -> vec4f {
#ifdef EXTRAS
    let extras = materials[in.material];
#ifdef BLEND
    let covered = select(alpha, 1.0, extras.blending.x > 0.0);
    return vec4f(tinted(in, color) * (covered * extras.fading.x), alpha * (1.0 - extras.blending.y)) * extras.fading.y;
#else
    return vec4f(tinted(in, color) * extras.fading.x, alpha);
#endif
#else
#ifdef BLEND
    return vec4f(tinted(in, color) * alpha, alpha);
#else
    return vec4f(tinted(in, color), alpha);
#endif
#endif
}

// Linear colour and coverage of a fragment; if it is blended, the colour is multiplied by the coverage.
fn appearance(in: VertexOut, front: bool) -> vec4f {
    var base = in.base_color;
#ifdef BASE_COLOR_TEXTURE
#ifdef BASE_COLOR_GREY
    base *= vec4f(textureSample(base_color_texture, base_color_sampler, in.BASE_COLOR_UV).rrr, 1.0);
#else
    base *= textureSample(base_color_texture, base_color_sampler, in.BASE_COLOR_UV);
#endif
#endif
#ifdef EXTRAS
    let extras = materials[in.material];
    var sky_share = 1.0;
    var light_share = 1.0;
#ifdef VERTEX_COLOR
    base *= mix(vec4f(1.0), in.color, vec4f(extras.fading.www, extras.vertex_alpha.z));
    sky_share = mix(1.0, in.color.a, extras.vertex_alpha.x);
    light_share = mix(1.0, in.color.a, extras.vertex_alpha.y);
#endif
#else
#ifdef VERTEX_COLOR
    base *= in.color;
#endif
#endif
#ifdef CLIP
    if (base.a < in.emissive.w) {
        discard;
    }
#endif
#ifdef MASK
#ifdef ALPHA_TO_COVERAGE
    // The mask's edge, one pixel wide, becomes coverage (Castano, "Anti-aliased Alpha Test").
    base.a = clamp((base.a - in.emissive.w) / max(fwidth(base.a), 1e-4) + 0.5, 0.0, 1.0);
#else
    if (base.a < in.emissive.w) {
        discard;
    }
    base.a = 1.0;
#endif
#else
#ifndef BLEND
    base.a = 1.0;
#endif
#endif
#ifdef SILHOUETTE
#ifdef NUMBERS
    return in.number;
#endif
    return vec4f(1.0, 1.0, 1.0, base.a);
#else
#ifdef EXTRAS
    diffuse_share = mix(1.0, base.a, extras.blending.x);
    highlights = extras.fading.z;
#endif
#ifdef UNLIT
#ifdef FRESNEL
    let v = -normalize(view.ray_corner.xyz + in.position.x * view.ray_dx.xyz + in.position.y * view.ray_dy.xyz);
    return faded(in, base.rgb + fresnel_glow(extras, normalize(in.normal), v), base.a);
#else
    return faded(in, base.rgb, base.a);
#endif
#else
    let v = -normalize(view.ray_corner.xyz + in.position.x * view.ray_dx.xyz + in.position.y * view.ray_dy.xyz);
    var n = normalize(in.normal);
#ifdef NORMAL_TEXTURE
#ifdef NORMAL_XY
    let slope = textureSample(normal_texture, normal_sampler, in.NORMAL_UV).xy * 2.0 - 1.0;
    let texel = vec3f(slope, sqrt(max(1.0 - dot(slope, slope), 0.0)));
#else
    let texel = textureSample(normal_texture, normal_sampler, in.NORMAL_UV).xyz * 2.0 - 1.0;
#endif
#ifdef DERIVED_TANGENTS
    // Schueler, "Followup: Normal Mapping Without Precomputed Tangents", 2013; v grows downwards in a normal map.
    let place = world_position(in.position);
    let place_x = dpdx(place);
    let place_y = dpdy(place);
    let uv_x = dpdx(in.NORMAL_UV);
    let uv_y = dpdy(in.NORMAL_UV);
    let along_x = cross(place_y, n) * sign(dot(cross(place_x, place_y), n));
    let along_y = cross(n, place_x) * sign(dot(cross(place_x, place_y), n));
    let unscaled_t = along_x * uv_x.x + along_y * uv_y.x;
    let unscaled_b = along_x * uv_x.y + along_y * uv_y.y;
    let scale = inverseSqrt(max(max(dot(unscaled_t, unscaled_t), dot(unscaled_b, unscaled_b)), 1e-30));
    let t = unscaled_t * scale;
    let b = -unscaled_b * scale;
#else
    let t = normalize(in.tangent.xyz - n * dot(n, in.tangent.xyz));
    let b = cross(n, t) * sign(in.tangent.w);
#endif
    n = normalize(t * (texel.x * in.surface.z) + b * (texel.y * in.surface.z) + n * texel.z);
#endif
#ifdef DOUBLE_SIDED
    n = select(-n, n, front);
#endif
    var metallic = in.surface.x;
    var roughness = in.surface.y;
#ifdef METALLIC_ROUGHNESS_TEXTURE
    let mr = textureSample(metallic_roughness_texture, metallic_roughness_sampler, in.METALLIC_ROUGHNESS_UV);
#ifdef PACKED
    metallic *= mr.b;
#endif
#ifdef METALLIC_ROUGHNESS_GREY
    roughness *= mr.r;
#else
    roughness *= mr.g;
#endif
#endif
#ifdef METALNESS_TEXTURE
#ifdef METALNESS_GREY
    metallic *= textureSample(metalness_texture, metalness_sampler, in.METALNESS_UV).r;
#else
    metallic *= textureSample(metalness_texture, metalness_sampler, in.METALNESS_UV).b;
#endif
#endif
    var occlusion = 1.0;
#ifdef OCCLUSION_TEXTURE
    let ao = textureSample(occlusion_texture, occlusion_sampler, in.OCCLUSION_UV).r;
    occlusion = 1.0 + in.surface.w * (ao - 1.0);
#endif
#ifdef EXTRAS
    occlusion = max(occlusion, 0.0) * sky_share;
#endif
#ifdef VERTEX_IRRADIANCE
    let irradiance = in.irradiance;
#else
    let irradiance = max(diffuse_irradiance(n), vec3f(0.0));
#endif
    var radiance = shade(n, v, base.rgb, metallic, roughness, occlusion, irradiance, in.position);
#ifdef EXTRAS
    radiance *= light_share;
#endif
#ifdef EMISSIVE
    var emissive = in.emissive.rgb;
#ifdef EMISSIVE_TEXTURE
#ifdef EMISSIVE_GREY
    emissive *= textureSample(emissive_texture, emissive_sampler, in.EMISSIVE_UV).rrr;
#else
    emissive *= textureSample(emissive_texture, emissive_sampler, in.EMISSIVE_UV).rgb;
#endif
#endif
#ifdef EXTRAS
    emissive *= diffuse_share;
#endif
    radiance += emissive * view.light_color.w;
#endif
#ifdef FRESNEL
    radiance += fresnel_glow(extras, n, v) * view.light_color.w;
#endif
    return faded(in, tone_map(radiance), base.a);
#endif
#endif
}

#ifndef CLIPPED
#ifdef EARLY
@early_depth_test(force)
#endif
@fragment fn fragment(in: VertexOut
#ifdef DOUBLE_SIDED
    , @builtin(front_facing) front: bool
#endif
#ifdef LAYERS
    , @builtin(sample_mask) samples: u32
) {
#else
) -> @location(0) vec4f {
#endif
#ifdef CUT
#ifdef UNCLIPPED
    if (cut_away(world_position(in.position), in.cut_mask)) {
        discard;
    }
#endif
#endif
#ifdef DOUBLE_SIDED
    var color = appearance(in, front);
#else
    var color = appearance(in, true);
#endif
#ifdef CUT_FADE
    color = cut_faded(color, world_position(in.position), in.cut_mask);
#endif
#ifdef SHELL
    color = shell_color(color.rgb);
#endif
#ifdef SEE_THROUGH
    color *= SEE_THROUGH_OPACITY;
#endif
#ifdef LAYERS
    append_layer(in.position, samples, color);
#else
    return color;
#endif
}
#endif
