// Composes the lists of layers, see layers.py: for each sample from the nearest to the farthest.
struct Lists {
    count: u32,
    capacity: u32,
    width: u32,
    band: u32,  // first row << 16 | end
    first_tile: u32,
    tiles_across: u32,
    height: u32,
    unused: u32,
    heads: array<u32>,
}
@group(0) @binding(0) var<storage, read> lists: Lists;
@group(0) @binding(1) var<storage, read> nodes: array<vec4u>;
#ifdef MULTISAMPLED
@group(1) @binding(0) var opaque: texture_depth_multisampled_2d;
#else
@group(1) @binding(0) var opaque: texture_depth_2d;
#endif

struct Corner {
    @builtin(position) position: vec4f,
}

// A square for each tile in which there is any layer: most of a picture mostly has none. Six vertices each.
@vertex fn tiles(@builtin(vertex_index) index: u32, @builtin(instance_index) tile: u32) -> Corner {
    if (lists.heads[lists.first_tile + tile] == 0u) {
        return Corner(vec4f(0.0, 0.0, 0.0, 1.0));
    }
    // The corners 0 1 2, 2 1 3 of two triangles, two bits each.
    let corner = (0xDA4u >> (2u * index)) & 3u;
    let place = vec2u(tile % lists.tiles_across + (corner & 1u), tile / lists.tiles_across + (corner >> 1u)) * TILE;
    let size = vec2f(f32(lists.width), f32(lists.height));
    return Corner(vec4f(vec2f(place) / size * vec2f(2.0, -2.0) + vec2f(-1.0, 1.0), 0.0, 1.0));
}

// Whether a layer comes before another: it is nearer, or at the same depth first by its colour, so that the order in
// which they were drawn has no say. Depths are positive floats, whose bits are ordered as they are.
fn before(a: vec3u, b: vec3u) -> bool {
    if (a.x != b.x) {
        return a.x > b.x;
    }
    if (a.y != b.y) {
        return a.y > b.y;
    }
    return a.z > b.z;
}

@fragment fn compose(in: Corner
#ifdef MULTISAMPLED
    , @builtin(sample_index) sample: u32
#endif
) -> @location(0) vec4f {
    let place = vec2u(in.position.xy);
    let head = lists.heads[place.y * lists.width + place.x];
    let first = lists.band >> 16u;
    let end = lists.band & 0xFFFFu;
    if (head == 0u || first > place.y || place.y >= end) {
        discard;
    }
#ifdef MULTISAMPLED
    let behind = textureLoad(opaque, place, i32(sample));
    let covers = 1u << (28u + sample);
#else
    let behind = textureLoad(opaque, place, 0);
    let covers = 0xF0000000u;
#endif
    var color = vec3f(0.0);
    var through = 1.0;
    var last = vec3u(0xFFFFFFFFu);
    loop {
        // The nearest layer beyond the last one, and how many there are just like it.
        var best = vec3u(0u);
        var many = 0u;
        var node = head;
        loop {
            let layer = nodes[node - 1u];
            let seen = (layer.x & covers) != 0u && bitcast<f32>(layer.y) > behind;
            if (seen && before(last, layer.yzw)) {
                if (before(layer.yzw, best) || many == 0u) {
                    best = layer.yzw;
                    many = 1u;
                } else if (all(layer.yzw == best)) {
                    many += 1u;
                }
            }
            node = layer.x & 0x0FFFFFFFu;
            if (node == 0u) {
                break;
            }
        }
        if (many == 0u) {
            break;
        }
        last = best;
        let red_green = unpack2x16float(best.y);
        let blue_alpha = unpack2x16float(best.z);
        for (var number = 0u; number < many; number++) {
            color += through * vec3f(red_green, blue_alpha.x);
            through *= 1.0 - blue_alpha.y;
        }
        if (through < 0.001) {
            break;
        }
    }
    return vec4f(color, 1.0 - through);
}
