// Lights that stand in the scene, by lists of those that reach a cell of the view: tiles of the picture cut into slices
// of depth (clustered shading, Olsson, Billeter and Assarsson 2012). render/lights.py fills the tables.
#ifdef LIGHTS
struct Light {
    position: vec3f,     // origin-relative; of a directional light unused
    fade: f32,           // 1 / reach^4 of the smooth end of an unlimited light, 0 for none
    color: vec3f,        // radiant intensity, or irradiance of a directional light; exposure included
    radius: f32,
    direction: vec3f,    // unit, the way it shines
    exponent: f32,       // of the falloff between a spot's cones
    tube: vec3f,         // from the middle to one end
    image: f32,          // layer of its projected image, or -1
    cutoff: vec2f,       // (distance of no light, 1 / length of the fade before it); the second 0: no cutoff
    cone: vec2f,         // factor and summand: cosine of an angle to 0 at the outer cone, 1 at the inner; (0, 1): none
    right: vec3f,        // unit axes of its image
    spread: f32,         // cotangent of the outer half angle; 0: the image lies all around
    up: vec3f,
    half_tube: f32,      // length of tube
}
@group(0) @binding(3) var<storage, read> lights: array<Light>;
@group(0) @binding(4) var<storage, read> light_lists: array<u32>;
@group(0) @binding(5) var light_images: texture_2d_array<f32>;

struct Lit {
    n: vec3f,
    v: vec3f,
    n_dot_v: f32,
    diffuse: vec3f,
    f0: vec3f,
    multiple_scatter: vec3f,
    roughness: f32,
}

// Radiance towards the eye of light whose highlight comes from l. irradiance: what falls onto the surface for the
// diffuse part; across: what falls onto a plane that faces the light, times what a lamp's size takes from the peak.
fn reflected_light(lit: Lit, l: vec3f, irradiance: f32, across: f32) -> vec3f {
    let h = normalize(l + lit.v);
    let n_dot_l = clamp(dot(lit.n, l), 0.0, 1.0);
    let n_dot_h = clamp(dot(lit.n, h), 0.0, 1.0);
    let l_dot_h = clamp(dot(l, h), 0.0, 1.0);
    let alpha = max(lit.roughness * lit.roughness, 0.002);
    let a2 = alpha * alpha;
    let denominator = n_dot_h * n_dot_h * (a2 - 1.0) + 1.0;
    let distribution = a2 / (3.14159265 * denominator * denominator);
    let visibility = 0.5 / (n_dot_l * sqrt(lit.n_dot_v * lit.n_dot_v * (1.0 - a2) + a2)
        + lit.n_dot_v * sqrt(n_dot_l * n_dot_l * (1.0 - a2) + a2) + 1e-5);
    let p = 1.0 - l_dot_h;
    let p2 = p * p;
#ifdef EXTRAS
    let fresnel = (lit.f0 + (1.0 - lit.f0) * (p2 * p2 * p)) * highlights;
#else
    let fresnel = lit.f0 + (1.0 - lit.f0) * (p2 * p2 * p);
#endif
    return lit.diffuse * (0.31830989 * irradiance) * (1.0 - fresnel)
        + fresnel * lit.multiple_scatter * (distribution * visibility * n_dot_l * across);
}

#ifdef LIGHT_SHAPES
fn image_color(light: Light, from_light: vec3f) -> vec3f {
    let d = vec3f(dot(from_light, light.right), dot(from_light, light.up), -dot(from_light, light.direction));
    var uv: vec2f;
    if (light.spread > 0.0) {
        uv = vec2f(d.x, -d.y) * (0.5 * light.spread / max(-d.z, 1e-6)) + 0.5;
    } else {
        // The octahedral map of specular_radiance.
        let p = d.xz / (abs(d.x) + abs(d.y) + abs(d.z));
        let folded = (1.0 - abs(p.yx)) * select(vec2f(-1.0), vec2f(1.0), p >= vec2f(0.0));
        let size = f32(textureDimensions(light_images).x);
        uv = select(folded, p, d.y >= 0.0) * (0.5 * (size - 1.0) / size) + 0.5;
    }
    let texel = textureSampleLevel(light_images, environment_sampler, uv, i32(light.image), 0.0);
    let root = texel.rgb * texel.a;
    return root * root;
}
#endif

// How much of a light arrives at a distance and from a direction, all but 1 / d^2.
fn light_strength(light: Light, distance2: f32, distance: f32, middle: vec3f) -> f32 {
    let window = max(1.0 - distance2 * distance2 * light.fade, 0.0);
    let limit = select(1.0, clamp((light.cutoff.x - distance) * light.cutoff.y, 0.0, 1.0), light.cutoff.y > 0.0);
#ifdef LIGHT_CONES
    let toward = dot(middle, light.direction) / max(distance, 1e-6);
    let cone = clamp(-toward * light.cone.x + light.cone.y, 0.0, 1.0);
    return window * window * limit * pow(cone, light.exponent);
#else
    return window * window * limit;
#endif
}

#ifdef LIGHT_SHAPES
// A ball or a tube by its representative point (Karis, "Real Shading in Unreal Engine 4", 2013).
fn placed_light(lit: Lit, light: Light, position: vec3f, mirrored: vec3f) -> vec3f {
    let middle = light.position - position;
    let first = middle - light.tube;
    let second = middle + light.tube;
    let first_length = max(length(first), 1e-6);
    let second_length = max(length(second), 1e-6);
    // The irradiance of a line of light, exact above the horizon; of a point: 1 / d^2.
    let least = max(light.radius, 0.01);
    let across = 2.0 / max(first_length * second_length + dot(first, second), 2.0 * least * least);
    let cosine = 0.5 * (dot(lit.n, first) / first_length + dot(lit.n, second) / second_length);

    let distance2 = dot(middle, middle);
    let distance = sqrt(distance2);
    let strength = light_strength(light, distance2, distance, middle);
    if (strength <= 0.0) {
        return vec3f(0.0);
    }
    var color = light.color;
    if (light.image >= 0.0) {
        color *= image_color(light, -middle);
    }

    // Nearest to the mirrored ray: on the tube, then on the ball around that point.
    let along = second - first;
    let along_mirrored = dot(mirrored, along);
    let t = (dot(mirrored, first) * along_mirrored - dot(first, along))
        / max(dot(along, along) - along_mirrored * along_mirrored, 1e-12);
    let on_line = first + along * clamp(t, 0.0, 1.0);
    let to_ray = dot(on_line, mirrored) * mirrored - on_line;
    let nearest = on_line + to_ray * min(light.radius / max(length(to_ray), 1e-6), 1.0);
    // What the lamp's size takes from the peak, so that a mirror shows a ball's, and a tube's, own radiance.
    let alpha = max(lit.roughness * lit.roughness, 0.002);
    let by_distance = 1.0 / max(distance, 1e-3);
    let wide = min(alpha + 0.5 * light.radius * by_distance, 1.0);
    let spread = (alpha * alpha) / (wide * wide);
    let stretched = wide / (wide + light.half_tube * 2.0 * by_distance * 0.31830989);
    return reflected_light(lit, nearest / max(length(nearest), 1e-6), across * max(cosine, 0.0),
        across * spread * stretched) * color * strength;
}
#else
// A point, without size, image or tube: a third of the work.
fn placed_light(lit: Lit, light: Light, position: vec3f, mirrored: vec3f) -> vec3f {
    let middle = light.position - position;
    let distance2 = dot(middle, middle);
    let by_distance = inverseSqrt(max(distance2, 1e-4));
    let l = middle * by_distance;
    let across = by_distance * by_distance;
    let strength = light_strength(light, distance2, distance2 * by_distance, middle);
    return reflected_light(lit, l, across * max(dot(lit.n, l), 0.0), across) * (light.color * strength);
}
#endif

fn placed_lights(lit: Lit, fragment: vec4f) -> vec3f {
    var sum = vec3f(0.0);
    let everywhere = u32(view.light_cells.w);
    for (var index = 0u; index < everywhere; index++) {
        let l = -lights[index].direction;
        sum += reflected_light(lit, l, clamp(dot(lit.n, l), 0.0, 1.0), 1.0) * lights[index].color;
    }
    let column = (fragment.x - view.viewport.x) * view.light_grid.x;
    let row = fragment.y * view.light_grid.x;
    let slice = clamp(log2(max(view_depth(fragment), 1e-9)) * view.light_grid.z + view.light_grid.w,
        0.0, view.light_cells.z - 1.0);
    let cell = u32(view.light_cells.x)
        + (u32(slice) * u32(view.light_cells.y) + u32(row)) * u32(view.light_grid.y) + u32(column);
    let mirrored = 2.0 * dot(lit.n, lit.v) * lit.n - lit.v;
    let position = world_position(fragment);
    let last = light_lists[cell + 1u];
    for (var index = light_lists[cell]; index < last; index++) {
        sum += placed_light(lit, lights[light_lists[index]], position, mirrored);
    }
    return sum;
}
#endif
