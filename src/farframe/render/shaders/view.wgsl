// What every pass of a view reads. The layout is VIEW_DTYPE of frame.py.
struct View {
    view_projection: mat4x4f,  // from origin-relative world to reversed-Z clip space
    ray_corner: vec4f,         // world direction of the ray through pixel (0, 0) of the target; w: size of points
    ray_dx: vec4f,             // its change per pixel to the right; w: near clip distance
    ray_dy: vec4f,             // its change per pixel down; w: far clip distance
    light_direction: vec4f,    // unit, towards the light
    light_color: vec4f,        // irradiance, exposure included
    irradiance: array<vec4f, 9>,  // spherical harmonics, divided by pi, exposure and intensity included
    environment: vec4f,        // cos and sin of the rotation, specular scale, scale of depth biases
    viewport: vec4f,           // x, y of the view in the target, 1 / width, 1 / height
    backdrop_top: vec4f,       // w: strength of the pool of light
    backdrop_bottom: vec4f,    // w: infinity
    eye: vec4f,                // where rays begin, origin-relative; w: 1 for an orthographic view, then that of pixel (0, 0)
    across: vec4f,             // unit, to the right; w: width of a pixel at distance 1, or anywhere if orthographic
    down: vec4f,               // unit, downwards; w: height of a pixel, likewise
    light_grid: vec4f,         // see lights.wgsl
    light_cells: vec4f,
}
@group(0) @binding(0) var<uniform> view: View;

// Metres along the view axis of a fragment, from its builtin position.
fn view_depth(fragment: vec4f) -> f32 {
    let near = view.ray_dx.w;
    let far = view.ray_dy.w;
    return select(1.0 / fragment.w, far - fragment.z * (far - near), view.eye.w > 0.0);
}

// Where a fragment lies, in metres of the world relative to the placement's origin, from its builtin position.
fn world_position(fragment: vec4f) -> vec3f {
    let slope = view.ray_corner.xyz + fragment.x * view.ray_dx.xyz + fragment.y * view.ray_dy.xyz;
    let shift = (fragment.x * view.across.w) * view.across.xyz + (fragment.y * view.down.w) * view.down.xyz;
    return view.eye.xyz + view.eye.w * shift + slope * view_depth(fragment);
}

struct FullScreen {
    @builtin(position) position: vec4f,
}

// A triangle that covers the viewport, at depth 0: infinitely far in reversed-Z.
@vertex fn full_screen(@builtin(vertex_index) index: u32) -> FullScreen {
    let corner = vec2f(f32(index & 1u), f32(index >> 1u));
    return FullScreen(vec4f(corner * 4.0 - 1.0, 0.0, 1.0));
}
