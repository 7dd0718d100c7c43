// Runs before the first paint, so that a remembered theme never flashes. See src/lib/theme.svelte.ts.
try {
  var theme = localStorage.getItem("tracker.theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch (error) {
  // Storage may be forbidden; the system's theme is used then.
}
