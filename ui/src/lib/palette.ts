// Run colours: seven hues that stay apart for the common kinds of colour blindness, in a light and a dark variant.
// Derived from Okabe and Ito's set; darkened or lightened to keep a contrast of 3:1 against the chart.

const LIGHT = ["#3b5bdb", "#c2410c", "#00795a", "#b0308f", "#8a6100", "#0e7fa8", "#6b46c1"];
const DARK = ["#8ea2ff", "#ff9d5c", "#3ecf9f", "#f08fd3", "#f0c24b", "#5fc4ec", "#b79cff"];

export function runColor(id: string, dark: boolean): string {
  let hash = 2166136261;
  for (let i = 0; i < id.length; i++) hash = Math.imul(hash ^ id.charCodeAt(i), 16777619) >>> 0;
  return (dark ? DARK : LIGHT)[hash % LIGHT.length]!;
}
