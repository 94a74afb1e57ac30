// Caps: what is cut open is closed by the cut plane, where the plane lies inside of something solid. See caps.py.
struct Cap {
    plane: vec4f,   // unit normal towards what is cut away; w: offset, origin-relative
    color: vec4f,   // linear; w: how much of it is seen in the place of the parts' own
    hatch: vec4f,   // unit, in the plane, across the lines; w: metres from the world's origin to that of positions
    numbers: vec4f, // which of styles.planes it is, how dark lines are, how far apart in pixels, how wide
    other: vec4f,   // share of the distance by which it is nearer, mask of all that it closes where that is one
}
@group(1) @binding(0) var<uniform> cap: Cap;

// Where the ray through a place of the picture meets the plane, and how many metres along the view axis that is.
fn on_plane(place: vec2f) -> vec4f {
    let slope = view.ray_corner.xyz + place.x * view.ray_dx.xyz + place.y * view.ray_dy.xyz;
    let shift = (place.x * view.across.w) * view.across.xyz + (place.y * view.down.w) * view.down.xyz;
    let start = view.eye.xyz + view.eye.w * shift;
    // Only what looks through the plane into what is left meets it from the right side.
    let falling = dot(cap.plane.xyz, slope);
    let depth = select(-1.0, (cap.plane.w - dot(cap.plane.xyz, start)) / falling, falling < 0.0);
    return vec4f(start + slope * depth, depth);
}

#ifdef SEVERAL
// Whether another plane that concerns a mask takes away the cap itself, or is met later by the ray through it.
fn cap_cut_away(place: vec4f, mask: u32) -> bool {
    var least = 1e9;
    for (var index = 0; index < CUT; index++) {
        if (index != i32(cap.numbers.x)) {
            least = min(least, cut_distance(index, place.xyz, mask));
        }
    }
    return least < -1e-5 * abs(place.w);
}
#endif

#ifdef COUNT
// First the faces of what the plane goes through are counted, all that lie behind it on a pixel's ray and whether seen
// or not: backs by 1, fronts by -1. Of a solid in which the plane is 1 is left, of all others nothing; and of what each
// face adds beside it, which is the same for all of a part, the same is left.
#ifdef BASE_COLOR_TEXTURE
@group(2) @binding(0) var base_color_texture: texture_2d<f32>;
@group(2) @binding(1) var base_color_sampler: sampler;
#endif

struct VertexIn {
    @location(0) position: vec3f,
    @location(6) row0: vec4f,
    @location(7) row1: vec4f,
    @location(8) row2: vec4f,
    @location(9) base_color: vec4f,
#ifdef TINT
    @location(12) tint: vec4f,
#endif
    @location(14) cut_mask: u32,
}

struct Counted {
    @builtin(position) position: vec4f,
    @location(0) @interpolate(flat) base_color: vec3f,
#ifdef TINT
    @location(2) @interpolate(flat) tint: vec4f,
#endif
    @location(1) @interpolate(flat) cut_mask: u32,
#ifdef CLIPPED
    @builtin(clip_distances) cut: array<f32, 1>,
#endif
}

fn beyond(world: vec3f, mask: u32) -> bool {
    return (mask & u32(styles.ranges[i32(cap.numbers.x)].y)) == 0u || dot(cap.plane.xyz, world) > cap.plane.w;
}

@vertex fn vertex(in: VertexIn) -> Counted {
    let local = vec4f(in.position, 1.0);
    let world = vec4f(dot(in.row0, local), dot(in.row1, local), dot(in.row2, local), 1.0);
    var out: Counted;
    out.position = view.view_projection * world;
    out.base_color = in.base_color.rgb;
#ifdef TINT
    out.tint = in.tint;
#endif
    out.cut_mask = in.cut_mask;
#ifdef CLIPPED
    let concerned = (in.cut_mask & u32(styles.ranges[i32(cap.numbers.x)].y)) != 0u;
    out.cut[0] = select(-1.0, cap.plane.w - dot(cap.plane.xyz, world.xyz), concerned);
#endif
    return out;
}

#ifndef CLIPPED
@fragment fn fragment(in: Counted, @builtin(front_facing) front: bool
#ifdef PER_SAMPLE
    , @builtin(sample_index) sample: u32
#endif
) -> @location(0) vec4f {
#ifdef UNCLIPPED
    if (beyond(world_position(in.position), in.cut_mask)) {
        discard;
    }
#endif
#ifdef SEVERAL
    // For all faces of a part alike.
    if (cap_cut_away(on_plane(in.position.xy), in.cut_mask)) {
        discard;
    }
#endif
#ifdef JOINED_GREY
    var base = vec3f(JOINED_GREY);
#else
    var base = in.base_color;
#endif
#ifdef BASE_COLOR_TEXTURE
    // Inside of a part there is no place on its texture: the mean of all of it.
    let coarsest = f32(textureNumLevels(base_color_texture) - 1u);
#ifdef BASE_COLOR_GREY
    base *= textureSampleLevel(base_color_texture, base_color_sampler, vec2f(0.5), coarsest).rrr;
#else
    base *= textureSampleLevel(base_color_texture, base_color_sampler, vec2f(0.5), coarsest).rgb;
#endif
#endif
#ifdef UNLIT_PART
    var unlit = 1.0;
#else
    var unlit = 0.0;
#endif
#ifdef TINT
    base = mix(base, in.tint.rgb, in.tint.w);
    unlit = mix(unlit, 1.0, in.tint.w);
#endif
    // Square roots, for what halves of 16 bits can tell of dark colours.
    let color = vec4f(sqrt(max(base, vec3f(0.0))), 1.0 + unlit / UNLIT_STEPS);
    return select(color, -color, front);
}
#endif
#else

#ifdef MULTISAMPLED
@group(2) @binding(0) var counts: texture_multisampled_2d<f32>;
#else
@group(2) @binding(0) var counts: texture_2d<f32>;
#endif

struct Drawn {
    @location(0) color: vec4f,
    @builtin(frag_depth) depth: f32,
}

// How much of a pixel the lines cover. They are at multiples of a power of two metres, that which makes them about as
// far apart as wanted; every second one goes as those that stay come nearer to each other.
fn hatching(along: f32, across: f32) -> f32 {
    let level = log2(across * cap.numbers.z);
    let pitch = exp2(floor(level));
    let half_width = 0.5 * cap.numbers.w;
    let all = abs(fract(along / pitch - 0.5) - 0.5) * pitch / across;
    let some = abs(fract(0.5 * along / pitch - 0.5) - 0.5) * 2.0 * pitch / across;
    let stay = clamp(half_width + 0.5 - some, 0.0, 1.0);
    let go = clamp(half_width + 0.5 - all, 0.0, 1.0) * (1.0 - fract(level));
    return max(stay, go);
}

@fragment fn fragment(in: FullScreen
#ifdef MULTISAMPLED
    , @builtin(sample_index) sample: u32
#endif
) -> Drawn {
#ifdef MULTISAMPLED
    let sums = textureLoad(counts, vec2i(in.position.xy), i32(sample));
#else
    let sums = textureLoad(counts, vec2i(in.position.xy), 0);
#endif
    let solids = floor(sums.w + 0.5 / UNLIT_STEPS);
    let place = on_plane(in.position.xy);
    if (solids < 1.0 || place.w <= view.ray_dx.w || place.w >= view.ray_dy.w) {
        discard;
    }
#ifdef SEVERAL
    if (cap_cut_away(place, u32(cap.other.y))) {
        discard;
    }
#endif
    let n = cap.plane.xyz;
    let ray = view.ray_corner.xyz + in.position.x * view.ray_dx.xyz + in.position.y * view.ray_dy.xyz;
    let clip = view.view_projection * vec4f(place.xyz, 1.0);
    let depth = clip.z / clip.w;
    let unlit = clamp((sums.w - solids) * UNLIT_STEPS / solids, 0.0, 1.0);
    let root = max(sums.rgb / solids, vec3f(0.0));
    let base = mix(root * root, cap.color.rgb, cap.color.w);
    let fragment = vec4f(in.position.xy, depth, 1.0 / place.w);
    let irradiance = max(diffuse_irradiance(n), vec3f(0.0));
    let lit = tone_map(shade(n, -normalize(ray), base, 0.0, ROUGHNESS, 1.0, irradiance, fragment));
    // How far the place on the plane moves from pixel to pixel, to the right and down.
    let right = place.w * view.ray_dx.xyz + (view.eye.w * view.across.w) * view.across.xyz;
    let down = place.w * view.ray_dy.xyz + (view.eye.w * view.down.w) * view.down.xyz;
    let back = ray / dot(n, ray);
    let across = vec2f(dot(cap.hatch.xyz, right - back * dot(n, right)), dot(cap.hatch.xyz, down - back * dot(n, down)));
    let along = dot(cap.hatch.xyz, place.xyz) + cap.hatch.w;
    let lines = cap.numbers.y * hatching(along, max(length(across), 1e-12));
    return Drawn(vec4f(mix(lit, base, unlit) * (1.0 - lines), 1.0), min(depth * (1.0 + cap.other.x * view.environment.w), 1.0));
}
#endif
