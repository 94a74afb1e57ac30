// Lines where surfaces end or fold, from the depth of the picture: places of neighbouring pixels are joined by vectors,
// and where these turn by more than a smooth surface's do, there is an edge. The two pixels at an edge share it by how
// far each is from it, and each sample has its own, so that lines are smooth. See render/debug.py.
#ifdef MULTISAMPLED
@group(1) @binding(0) var depth: texture_depth_multisampled_2d;
#else
@group(1) @binding(0) var depth: texture_depth_2d;
#endif

fn distance_at(pixel: vec2i, index: i32) -> f32 {
    let d = textureLoad(depth, pixel, index);
    let near = view.ray_dx.w;
    let far = view.ray_dy.w;
    let perspective = near * far / (max(d, 1e-20) * (far - near) + near);
    return select(perspective, far - d * (far - near), view.eye.w > 0.0);
}

// From one pixel's place to its neighbour's; step: that of a pixel on the plane at distance 1; to: where the second
// pixel lies on that plane.
fn joined(from_depth: f32, to_depth: f32, step: f32, to: f32) -> vec2f {
    // In the plane of the eye and the row (or column): x along it, y along the axis.
    let flat = view.eye.w > 0.0;
    let x = select(to * to_depth - (to - step) * from_depth, step, flat);
    return vec2f(x, to_depth - from_depth);
}

// The angle by which the row (or column) of three turns at the middle one; 0 where that lies behind a neighbour.
fn turn(before: f32, here: f32, after: f32, step: f32, slope: f32) -> f32 {
    let a = joined(before, here, step, slope);
    let b = joined(here, after, step, slope + step);
    let angle = acos(clamp(dot(a, b) / max(length(a) * length(b), 1e-20), -1.0, 1.0));
    // Of a step in depth only the nearer side has the line, and has it although it turns away from the eye there.
    let width = step * select(here, 1.0, view.eye.w > 0.0);
    let onward = (after - here) - STEEPER * max(here - before, 0.0);
    let backward = (before - here) - STEEPER * max(here - after, 0.0);
    let ends = max(onward, backward);
    if (ends > GAP * width) {
        return 3.2;
    }
    let behind = min(before, after) < here - GAP * width && abs(2.0 * here - before - after) > GAP * width;
    return select(angle, 0.0, behind);
}

fn strength(pixel: vec2i, index: i32, slope: vec2f) -> f32 {
    let first = vec2i(floor(view.viewport.xy + vec2f(0.5)));
    let last = vec2i(textureDimensions(depth)) - 1;
    let low = vec2i(max(first.x, 0), 0);
    let high = vec2i(min(i32(view.viewport.x + 1.0 / view.viewport.z + 0.5) - 1, last.x), last.y);
    if (textureLoad(depth, pixel, index) <= 0.0) {
        return 0.0;
    }
    let here = distance_at(pixel, index);
    let left = distance_at(clamp(pixel - vec2i(1, 0), low, high), index);
    let right = distance_at(clamp(pixel + vec2i(1, 0), low, high), index);
    let up = distance_at(clamp(pixel - vec2i(0, 1), low, high), index);
    let down = distance_at(clamp(pixel + vec2i(0, 1), low, high), index);
    var angle = 0.0;
    if (pixel.x > low.x && pixel.x < high.x) {
        angle = turn(left, here, right, view.across.w, slope.x);
    }
    if (pixel.y > low.y && pixel.y < high.y) {
        angle = max(angle, turn(up, here, down, view.down.w, slope.y));
    }
    return smoothstep(SMOOTH_ANGLE, EDGE_ANGLE, angle);
}

@fragment fn fragment(in: FullScreen) -> @location(0) vec4f {
    let pixel = vec2i(in.position.xy);
    // Direction of the pixel in the view's own axes, on the plane at distance 1.
    let ray = view.ray_corner.xyz + in.position.x * view.ray_dx.xyz + in.position.y * view.ray_dy.xyz;
    let slope = vec2f(dot(ray, view.across.xyz), dot(ray, view.down.xyz));
    var sum = 0.0;
    for (var index = 0; index < SAMPLES; index++) {
        sum += strength(pixel, index, slope);
    }
    return vec4f(0.0, 0.0, 0.0, min(sum / f32(SAMPLES), 1.0) * OPACITY);
}
