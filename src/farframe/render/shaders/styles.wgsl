// How surfaces are drawn beyond their material: cut by planes, as shells, half transparent. Hooks of surface.wgsl and
// points.wgsl; the layout is STYLE_DTYPE of styles.py.
#ifdef STYLED
struct Styles {
    planes: array<vec4f, 8>,  // unit normal towards what is cut away; w: offset, origin-relative
    fades: array<vec4f, 8>,   // display-referred; w: how much of it is seen at the plane
    ranges: array<vec4f, 8>,  // 1 / length of the fade, filter mask
    shell: vec4f,             // desaturation, opacity
}
@group(0) @binding(7) var<uniform> styles: Styles;
#endif

#ifdef CUT
// Metres to a plane within what is left; far away for planes that do not concern an instance.
fn cut_distance(index: i32, world: vec3f, mask: u32) -> f32 {
    let plane = styles.planes[index];
    let concerned = (mask & u32(styles.ranges[index].y)) != 0u;
    return select(1e9, plane.w - dot(plane.xyz, world), concerned);
}

// Whether any plane cuts a place away.
fn cut_away(world: vec3f, mask: u32) -> bool {
    var least = 1e9;
    for (var index = 0; index < CUT; index++) {
        least = min(least, cut_distance(index, world, mask));
    }
    return least < 0.0;
}

// The colours of planes, on what is left next to them. Colours are multiplied by their coverage.
fn cut_faded(color: vec4f, world: vec3f, mask: u32) -> vec4f {
    var rgb = color.rgb;
    for (var index = 0; index < CUT; index++) {
        let fade = styles.fades[index];
        let near = 1.0 - cut_distance(index, world, mask) * styles.ranges[index].x;
        rgb = mix(rgb, fade.rgb * color.a, clamp(near, 0.0, 1.0) * fade.w);
    }
    return vec4f(rgb, color.a);
}
#endif

#ifdef SHELL
// The colour of a shell, multiplied by its coverage; greys are by luminance (Rec. 709).
fn shell_color(rgb: vec3f) -> vec4f {
    let grey = vec3f(dot(rgb, vec3f(0.2126, 0.7152, 0.0722)));
    return vec4f(mix(rgb, grey, styles.shell.x), 1.0) * styles.shell.y;
}
#endif
