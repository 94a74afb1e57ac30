// Points of a cloud as squares that face the eye, as large as the gaps between them, or as dots of one pixel where
// that is as large. Unlit: scans come with the light that they were taken in.

#ifndef DOT
@group(1) @binding(0) var<storage, read> points: array<vec4u>;  // position as three floats; colour and size as bytes
#endif

struct VertexIn {
    // Rows of the matrix from part space to origin-relative world space.
    @location(0) row0: vec4f,
    @location(1) row1: vec4f,
    @location(2) row2: vec4f,
    @location(5) tint: vec4f,
#ifdef CUT
    @location(6) cut_mask: u32,
#endif
#ifdef DOT
    @location(3) position: vec3f,
    @location(4) color: vec4f,
#else
    @builtin(vertex_index) index: u32,
#endif
}

struct VertexOut {
    @builtin(position) position: vec4f,
    @location(0) @interpolate(flat) color: vec3f,
}

@vertex fn vertex(in: VertexIn) -> VertexOut {
#ifdef DOT
    let local = vec4f(in.position, 1.0);
    let color = in.color;
#else
    let point = points[in.index / 6u];
    let local = vec4f(bitcast<vec3f>(point.xyz), 1.0);
    let color = unpack4x8unorm(point.w);
#endif
    let world = vec4f(dot(in.row0, local), dot(in.row1, local), dot(in.row2, local), 1.0);
    var out: VertexOut;
    out.position = view.view_projection * world;
    out.color = mix(color.rgb, in.tint.rgb, in.tint.w);
#ifndef DOT
    let scale = length(vec3f(in.row0.x, in.row1.x, in.row2.x)) * view.ray_corner.w;
    let size = exp2(color.a * 255.0 / SIZE_STEPS - SIZE_OFFSET) * scale;
    // A pixel's width at this depth; what a metre there is in clip space follows from the projection's scale, which
    // the rows of the matrix hold along the view's own axes. Orthographic views have a w of 1 everywhere.
    let pixel = view.across.w * out.position.w;
    let m = view.view_projection;
    let right = dot(vec3f(m[0].x, m[1].x, m[2].x), view.across.xyz);
    let up = -dot(vec3f(m[0].y, m[1].y, m[2].y), view.down.xyz);
    let half_size = 0.5 * clamp(size, pixel, LARGEST_PIXELS * pixel);
    // The corners 0 1 2, 2 1 3 of two triangles, two bits each.
    let corner = 0xDA4u >> (2u * (in.index % 6u));
    let side = vec2f(vec2u(corner, corner >> 1u) & vec2u(1u)) * 2.0 - 1.0;
    out.position += vec4f(side * half_size * vec2f(right, up), 0.0, 0.0);
#endif
#ifdef CUT
    // A point is there or is not; what is cut away lies outside of the view, all corners of a square in one place.
    if (cut_away(world.xyz, in.cut_mask)) {
        out.position = vec4f(2.0, 2.0, 0.5, 1.0);
    }
    out.color = cut_faded(vec4f(out.color, 1.0), world.xyz, in.cut_mask).rgb;
#endif
    return out;
}

@fragment fn fragment(in: VertexOut) -> @location(0) vec4f {
    return vec4f(in.color, 1.0);
}
