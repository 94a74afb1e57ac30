// Lists of what is seen through, see layers.py. A piece of surface.wgsl: adds a fragment to its pixel's list.
#ifdef LAYERS
struct Lists {
    count: atomic<u32>,
    capacity: u32,
    width: u32,
    band: u32,
    first_tile: u32,
    tiles_across: u32,
    height: u32,
    unused: u32,
    heads: array<atomic<u32>>,
}
@group(3) @binding(0) var<storage, read_write> lists: Lists;
@group(3) @binding(1) var<storage, read_write> nodes: array<vec4u>;

// ``color`` is multiplied by its coverage; ``samples`` are those that the triangle covers.
fn append_layer(position: vec4f, samples: u32, color: vec4f) {
    if (all(color == vec4f(0.0))) {
        return;
    }
    let node = atomicAdd(&lists.count, 1u);
    if (node >= lists.capacity) {
        return;
    }
    let place = vec2u(position.xy);
    let pixel = place.y * lists.width + place.x;
    let next = atomicExchange(&lists.heads[pixel], node + 1u);
    if (next == 0u) {
        atomicStore(&lists.heads[lists.first_tile + place.y / TILE * lists.tiles_across + place.x / TILE], 1u);
    }
    let bright = min(color, vec4f(60000.0));
    nodes[node] = vec4u(next | ((samples & 15u) << 28u), bitcast<u32>(position.z), pack2x16float(bright.rg),
        pack2x16float(bright.ba));
}
#endif
