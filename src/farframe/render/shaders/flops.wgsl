// Chains of dependent fused multiply-adds on four vectors of four: 32 floating point operations per step, enough
// independent chains to hide their latency. The result is stored so that no compiler can drop the work.
@group(0) @binding(0) var<storage, read_write> results: array<f32>;
@group(0) @binding(1) var<uniform> steps: vec4u;

@compute @workgroup_size(64) fn flops(@builtin(global_invocation_id) id: vec3u) {
    let x = f32(id.x) * 1e-6;
    var a = vec4f(x, x + 0.1, x + 0.2, x + 0.3);
    var b = a + 0.01;
    var c = a + 0.02;
    var d = a + 0.03;
    let m = vec4f(0.999);
    for (var i = 0u; i < steps.x; i++) {
        a = fma(a, m, b); b = fma(b, m, c); c = fma(c, m, d); d = fma(d, m, a);
        a = fma(a, m, b); b = fma(b, m, c); c = fma(c, m, d); d = fma(d, m, a);
        a = fma(a, m, b); b = fma(b, m, c); c = fma(c, m, d); d = fma(d, m, a);
        a = fma(a, m, b); b = fma(b, m, c); c = fma(c, m, d); d = fma(d, m, a);
    }
    let s = a + b + c + d;
    results[id.x] = s.x + s.y + s.z + s.w;
}
