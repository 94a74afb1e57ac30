// A checkerboard that moves over places where surfaces of more than one part lie in nearly the same depth.
struct Board {
    cell: vec4f,  // width of a cell in pixels; cells that the board has moved
}
@group(1) @binding(0) var numbers: texture_2d<f32>;
@group(1) @binding(1) var<uniform> board: Board;

@fragment fn fragment(in: FullScreen) -> @location(0) vec4f {
    // Of each two channels the greatest of the parts' numbers and of one less them: together one, if there is one part,
    // and also in the mean of samples that each see one.
    let number = textureLoad(numbers, vec2i(in.position.xy), 0);
    let several = number.r + number.g > 1.0 + TOLERANCE || number.b + number.a > 1.0 + TOLERANCE;
    let cell = floor((in.position.xy - view.viewport.xy) / board.cell.x + vec2f(board.cell.y, 0.0));
    let odd = abs(cell.x + cell.y) % 2.0 > 0.5;
    let color = select(vec3f(0.02), vec3f(1.0, 0.0, 0.7), odd);
    return vec4f(color, select(0.0, OPACITY, several));
}
