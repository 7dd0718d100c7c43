import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vite";

// `npm run dev` serves the sources and passes API calls on to a server started by hand.
const server = process.env.TRACKER_SERVER ?? "http://127.0.0.1:8600";

export default defineConfig({
  plugins: [svelte()],
  build: {
    outDir: "dist",
    target: "es2022",
    // Data URLs and inline scripts are forbidden by the server's Content-Security-Policy.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  server: { proxy: { "/api": { target: server } } },
});
