// uPlot's options for one metric: axes, scales, series, zoom by dragging, crosshair shared between charts.

import uPlot from "uplot";
import type { Axis } from "./columns";
import { formatCount, formatDuration, formatQuantity, namesBytes } from "./format";

export interface Colors {
  line: string;
  faint: string;
  band: string;
  grid: string;
  axis: string;
  warn: string;
  caution: string;
  surface: string;
}

export interface ChartSpec {
  metric: string;
  width: number;
  height: number;
  axis: Axis;
  log: boolean;
  /** whether y begins at 0, so that a little noise does not look like much */
  zero: boolean;
  colors: Colors;
  syncKey: string;
  /** the visible range of x, or null for all of the data */
  range: () => [number, number] | null;
  onselect: (from: number, to: number) => void;
  onreset: () => void;
  oncursor: (index: number | null, left: number, top: number) => void;
  ondraw: (plot: uPlot) => void;
}

const FONT = '11px ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif';
const DRAG_MIN_PX = 5;
/** With at most this many points in view each gets a dot. */
const DOTS_MAX = 40;
const DAY_S = 86_400;

/** Order of the series behind uPlot's x. */
export const HIGH = 1;
export const LOW = 2;
export const RAW = 3;
export const LINE = 4;

export function chartOptions(spec: ChartSpec): uPlot.Options {
  const { colors } = spec;
  const axisLook = {
    font: FONT,
    stroke: colors.axis,
    grid: { stroke: colors.grid, width: 1 },
    ticks: { show: false },
    border: { show: false },
  };
  return {
    width: spec.width,
    height: spec.height,
    pxAlign: 1,
    padding: [9, 14, 0, 0],
    legend: { show: false },
    focus: { alpha: 1 },
    scales: {
      x: {
        time: spec.axis === "wall",
        range: (_plot, min, max) => spec.range() ?? wide(min, max),
      },
      y: spec.log ? { distr: 3 } : { range: (_plot, min, max) => (spec.zero ? fromZero(min, max) : padded(min, max)) },
    },
    axes: [
      { ...axisLook, size: 26, gap: 6, space: 64, ...xAxis(spec.axis) },
      {
        ...axisLook,
        gap: 6,
        space: 30,
        size: (_plot, values) => Math.max(44, 16 + 6.4 * Math.max(0, ...(values ?? []).map((text) => text?.length ?? 0))),
        values: (_plot, splits) => splits.map((value) => (value === null ? "" : formatQuantity(spec.metric, tidy(value)))),
        ...(namesBytes(spec.metric) ? { incrs: BYTE_INCREMENTS } : {}),
      },
    ],
    series: [
      {},
      { stroke: "transparent", width: 0, pxAlign: 0, points: { show: false } },
      { stroke: "transparent", width: 0, pxAlign: 0, points: { show: false } },
      { stroke: colors.faint, width: 1, pxAlign: 0, points: { show: false } },
      {
        stroke: colors.line,
        width: 1.6,
        pxAlign: 0,
        points: { show: (_plot, _series, from, to) => to - from <= DOTS_MAX, size: 5, fill: colors.line, width: 0 },
      },
    ],
    bands: [{ series: [HIGH, LOW], fill: colors.band }],
    cursor: {
      drag: { x: true, y: false, setScale: false, dist: DRAG_MIN_PX },
      y: false,
      points: {
        show: (plot, series) => (series === LINE ? cursorDot(plot, colors) : (undefined as unknown as HTMLElement)),
      },
      bind: {
        dblclick: () => () => {
          spec.onreset();
          return null;
        },
      },
      sync: {
        key: spec.syncKey,
        setSeries: false,
        scales: ["x", null],
        filters: { pub: isMove, sub: isMove },
      },
    },
    hooks: {
      setSelect: [
        (plot) => {
          const { left, width } = plot.select;
          if (width < DRAG_MIN_PX) return;
          const [from, to] = [plot.posToVal(left, "x"), plot.posToVal(left + width, "x")];
          plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
          spec.onselect(from, to);
        },
      ],
      setCursor: [
        (plot) => {
          const { idx, left, top } = plot.cursor;
          const inside = (left ?? -1) >= 0;
          spec.oncursor(inside && idx !== undefined ? idx : null, left ?? 0, top ?? 0);
        },
      ],
      draw: [spec.ondraw],
    },
  };
}

function isMove(type: string): boolean {
  return type === "mousemove" || type === "mouseleave";
}

function cursorDot(_plot: uPlot, colors: Colors): HTMLElement {
  const dot = document.createElement("div");
  dot.style.background = colors.line;
  dot.style.boxShadow = `0 0 0 2px ${colors.surface}`;
  return dot;
}

/** A range that is never empty, so that a single point stands in the middle. */
function wide(min: number, max: number): [number, number] {
  if (min === null || max === null) return [0, 1];
  return min === max ? [min - 0.5, max + 0.5] : [min, max];
}

function padded(min: number, max: number): [number, number] {
  if (min === null || max === null) return [0, 1];
  if (min === max) {
    const room = Math.abs(min) * 0.1 || 1;
    return [min - room, max + room];
  }
  const room = (max - min) * 0.06;
  return [min - room, max + room];
}

/** A range that holds 0, with room at the other end. */
function fromZero(min: number, max: number): [number, number] {
  if (min === null || max === null) return [0, 1];
  const [low, high] = [Math.min(0, min), Math.max(0, max)];
  return low === high ? [0, 1] : [low * 1.06, high * 1.06];
}

/** Take the noise of binary fractions off an axis value. */
function tidy(value: number): number {
  return Number(value.toPrecision(10));
}

function xAxis(axis: Axis): Pick<uPlot.Axis, "values" | "incrs"> {
  if (axis === "step") return { incrs: STEP_INCREMENTS, values: stepLabels };
  if (axis === "relative") return { incrs: SECOND_INCREMENTS, values: durationLabels };
  return { values: timeLabels };
}

const BYTE_INCREMENTS = Array.from({ length: 60 }, (_, power) => 2 ** power);
const STEP_INCREMENTS = Array.from({ length: 14 }, (_, power) => [1, 2, 5].map((n) => n * 10 ** power)).flat();
const SECOND_INCREMENTS = [
  0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200,
  14400, 21600, 43200, DAY_S, 2 * DAY_S, 5 * DAY_S, 10 * DAY_S, 20 * DAY_S, 50 * DAY_S, 100 * DAY_S,
];

type Labels = (plot: uPlot, splits: number[], axis: number, space: number, increment: number) => string[];

const stepLabels: Labels = (_plot, splits, _axis, _space, increment) =>
  splits.map((step) => {
    const short = increment >= 1e9 || (increment >= 1e3 && step % 100 === 0);
    return short ? exactCount(step) : step.toLocaleString("en-US");
  });

/** Like formatCount, but without rounding neighbours to the same text. */
function exactCount(step: number): string {
  const size = Math.abs(step);
  if (size >= 1e6) return `${Number((step / 1e6).toPrecision(6))}M`;
  return size >= 1e3 ? `${step / 1e3}k` : formatCount(step);
}

const durationLabels: Labels = (_plot, splits, _axis, _space, increment) =>
  splits.map((seconds) => {
    if (seconds === 0) return "0";
    if (increment < 1) return `${Number(seconds.toFixed(3))}s`;
    const text = formatDuration(Math.abs(seconds) * 1000).replace(/ 0+[hms]$/, "");
    return seconds < 0 ? `−${text}` : text;
  });

const timeLabels: Labels = (_plot, splits, _axis, _space, increment) =>
  splits.map((seconds, index) => {
    const date = new Date(seconds * 1000);
    const two = (value: number): string => String(value).padStart(2, "0");
    const clock = `${two(date.getHours())}:${two(date.getMinutes())}`;
    const day = date.toLocaleDateString("en-US", { month: "short", day: "numeric" });
    if (increment >= DAY_S) return day;
    const text = increment >= 60 ? clock : `${clock}:${two(date.getSeconds())}`;
    const previous = splits[index - 1];
    const turns = previous !== undefined && new Date(previous * 1000).getDate() !== date.getDate();
    return turns ? `${text}\n${day}` : text;
  });
