// How light makes a surface look: from the sky and from the directional light, with those of lights.wgsl, and tone
// mapping. A hook of whatever is lit, surface.wgsl and caps.wgsl.
#ifndef UNLIT
@group(0) @binding(1) var environment: texture_2d_array<f32>;
@group(0) @binding(2) var environment_sampler: sampler;

const LAYERS = f32(ENVIRONMENT_LAYERS);
const SIZE = f32(ENVIRONMENT_SIZE);
const RANGE = f32(ENVIRONMENT_RANGE);

fn environment_layer(uv: vec2f, layer: i32) -> vec3f {
    let texel = textureSampleLevel(environment, environment_sampler, uv, layer, 0.0);
    let root = texel.rgb * texel.a;
    return root * root * RANGE;
}

// Prefiltered radiance from a direction: an octahedral map (Cigolla et al. 2014) per step of roughness.
fn specular_radiance(direction: vec3f, roughness: f32) -> vec3f {
    let c = view.environment.x;
    let s = view.environment.y;
    let d = vec3f(c * direction.x - s * direction.z, direction.y, s * direction.x + c * direction.z);
    let p = d.xz / (abs(d.x) + abs(d.y) + abs(d.z));
    let folded = (1.0 - abs(p.yx)) * select(vec2f(-1.0), vec2f(1.0), p >= vec2f(0.0));
    let square = select(folded, p, d.y >= 0.0);
    // Half a texel in from the border, where the fold's texels are equal: no seam without a second fetch.
    let uv = square * (0.5 * (SIZE - 1.0) / SIZE) + 0.5;
    let level = roughness * (LAYERS - 1.0);
#ifdef METALLIC_ROUGHNESS_TEXTURE
    let below = floor(level);
    return mix(environment_layer(uv, i32(below)), environment_layer(uv, i32(below) + 1), level - below);
#else
    return environment_layer(uv, i32(level + 0.5));
#endif
}

fn diffuse_irradiance(n: vec3f) -> vec3f {
    return view.irradiance[0].rgb
        + view.irradiance[1].rgb * n.y + view.irradiance[2].rgb * n.z + view.irradiance[3].rgb * n.x
        + view.irradiance[4].rgb * (n.x * n.y) + view.irradiance[5].rgb * (n.y * n.z)
        + view.irradiance[6].rgb * (3.0 * n.z * n.z - 1.0)
        + view.irradiance[7].rgb * (n.x * n.z) + view.irradiance[8].rgb * (n.x * n.x - n.y * n.y);
}

// Khronos PBR Neutral tone mapper (github.com/KhronosGroup/ToneMapping, PBR_Neutral): keeps base colours as they
// are below 0.76 and rolls highlights off towards white.
fn tone_map(radiance: vec3f) -> vec3f {
    let low = min(radiance.r, min(radiance.g, radiance.b));
    let offset = select(0.04, low - 6.25 * low * low, low < 0.08);
    let color = radiance - offset;
    let peak = max(color.r, max(color.g, color.b));
    let start = 0.8 - 0.04;
    let d = 1.0 - start;
    let new_peak = 1.0 - d * d / (max(peak, start) + d - start);
    let g = 1.0 - 1.0 / (0.15 * (peak - new_peak) + 1.0);
    let rolled = mix(color * (new_peak / max(peak, 1e-6)), vec3f(new_peak), g);
    return select(rolled, color, peak < start);
}

fn shade(n: vec3f, v: vec3f, base: vec3f, metallic: f32, roughness: f32, occlusion: f32,
    irradiance: vec3f, fragment: vec4f) -> vec3f {
    let n_dot_v = clamp(dot(n, v), 1e-3, 1.0);
#ifdef EXTRAS
    let diffuse = base * ((1.0 - metallic) * diffuse_share);
#else
    let diffuse = base * (1.0 - metallic);
#endif
    let f0 = mix(vec3f(0.04), base, metallic);

    // Split-sum scale and bias: the analytic fit of Lazarov 2013 as in Karis, "Physically Based Shading on Mobile".
    let fit = vec4f(-1.0, -0.0275, -0.572, 0.022) * roughness + vec4f(1.0, 0.0425, 1.04, -0.04);
    let a004 = min(fit.x * fit.x, exp2(-9.28 * n_dot_v)) * fit.x + fit.y;
    let scale_bias = vec2f(-1.04, 1.04) * a004 + fit.zw;
    let single_scatter = f0 * scale_bias.x + scale_bias.y;
    // What rough metals lose between facets comes back (Turquin 2019, as in Filament).
    let multiple_scatter = 1.0 + f0 * (1.0 / (scale_bias.x + scale_bias.y) - 1.0);

    // Rough lobes lean from the mirrored direction towards the normal (Lagarde and de Rousiers 2014, 4.9.3).
    let smoothness = 1.0 - roughness;
    let reflected = mix(n, 2.0 * dot(n, v) * n - v, smoothness * (sqrt(smoothness) + roughness));
    let ambient = diffuse * irradiance;
    let mirrored = specular_radiance(reflected, roughness) * view.environment.z * single_scatter * multiple_scatter;

    // GGX with height-correlated Smith visibility (Heitz 2014) and Schlick's Fresnel term.
    let l = view.light_direction.xyz;
    let h = normalize(l + v);
    let n_dot_l = clamp(dot(n, l), 0.0, 1.0);
    let n_dot_h = clamp(dot(n, h), 0.0, 1.0);
    let l_dot_h = clamp(dot(l, h), 0.0, 1.0);
    let alpha = max(roughness * roughness, 0.002);
    let a2 = alpha * alpha;
    let denominator = n_dot_h * n_dot_h * (a2 - 1.0) + 1.0;
    let distribution = a2 / (3.14159265 * denominator * denominator);
    let visibility = 0.5 / (n_dot_l * sqrt(n_dot_v * n_dot_v * (1.0 - a2) + a2)
        + n_dot_v * sqrt(n_dot_l * n_dot_l * (1.0 - a2) + a2) + 1e-5);
    let p = 1.0 - l_dot_h;
    let p2 = p * p;
#ifdef EXTRAS
    let fresnel = (f0 + (1.0 - f0) * (p2 * p2 * p)) * highlights;
#else
    let fresnel = f0 + (1.0 - f0) * (p2 * p2 * p);
#endif
    let direct = (diffuse * 0.31830989 * (1.0 - fresnel) + fresnel * (distribution * visibility) * multiple_scatter)
        * (n_dot_l * view.light_color.rgb);
#ifdef LIGHTS
    let lit = Lit(n, v, n_dot_v, diffuse, f0, multiple_scatter, roughness);
    return (ambient + mirrored) * occlusion + direct + placed_lights(lit, fragment);
#else
    return (ambient + mirrored) * occlusion + direct;
#endif
}
#endif
