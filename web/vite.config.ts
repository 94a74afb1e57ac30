import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

/** `npm run dev` speaks to the service at this address, for instance http://127.0.0.1:8080. */
const service = process.env.FARFRAME_SERVICE;
const servicePaths = ["/accounts", "/viewer-links", "/regions", "/latency"];

/**
 * Four pages, built into the Python package. All references are relative, so that the bundle serves from any path, and
 * nothing is inlined, so that it runs under `Content-Security-Policy: default-src 'self'`.
 */
export default defineConfig({
  root: here("."),
  base: "./",
  publicDir: false,
  resolve: {
    alias: {
      "@farframe/client/element": here("packages/client/src/element.ts"),
      "@farframe/client": here("packages/client/src/index.ts"),
    },
  },
  build: {
    outDir: here("../src/farframe/web_bundle"),
    emptyOutDir: true,
    target: "es2023",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    sourcemap: false,
    rollupOptions: {
      input: {
        console: here("index.html"),
        viewer: here("viewer/index.html"),
        inspector: here("inspector/index.html"),
        measure: here("measure/index.html"),
      },
    },
  },
  server: {
    host: "127.0.0.1",
    proxy: service ? Object.fromEntries(servicePaths.map((path) => [path, { target: service, secure: false }])) : {},
  },
  // On a machine that does much else a test takes many times as long.
  test: { include: ["{packages/*,viewer,inspector}/test/**/*.test.ts"], environment: "node", testTimeout: 60_000 },
});
