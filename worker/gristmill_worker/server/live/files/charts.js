// Small charts, drawn by hand as SVG: a line over time, and shares that add up to one.

const HEIGHT = 150, LEFT = 8, TOP = 18, BOTTOM = 20;
const SPAN_S = 15 * 60;

function shape(tag, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

/** An empty chart with its axis; gives what maps time and a part of the height to places. */
function begin(svg, says, labels, until) {
  const width = Math.max(240, Math.round(svg.clientWidth || svg.parentElement.clientWidth || 320));
  svg.replaceChildren(shape("title", {}, says));
  svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
  svg.setAttribute("aria-label", says);
  const bottom = HEIGHT - BOTTOM;
  const x = (at) => LEFT + (width - 2 * LEFT) * (1 - (until - at) / SPAN_S);
  const y = (part) => bottom - (bottom - TOP) * part;
  for (const part of [0, 0.5, 1]) svg.append(shape("line", { class: "grid", x1: LEFT, x2: width - LEFT, y1: y(part), y2: y(part) }));
  svg.append(shape("text", { x: LEFT, y: HEIGHT - 5 }, labels.ago));
  svg.append(shape("text", { x: width - LEFT, y: HEIGHT - 5, "text-anchor": "end" }, labels.now));
  if (labels.most) svg.append(shape("text", { x: LEFT, y: TOP - 5 }, labels.most));
  return { x, y };
}

const points = (places) => places.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" ");

/** A line; `null` values leave a gap. */
export function line(svg, samples, valueOf, says, labels, until) {
  const { x, y } = begin(svg, says, labels, until);
  const most = Math.max(1e-9, ...samples.map((each) => valueOf(each) ?? 0));
  let run = [];
  const draw = () => {
    if (run.length > 1) {
      svg.append(shape("polygon", { class: "area", points: points([[run[0][0], y(0)], ...run, [run.at(-1)[0], y(0)]]) }));
      svg.append(shape("polyline", { class: "line", points: points(run) }));
    } else if (run.length) {
      svg.append(shape("circle", { class: "dot", cx: run[0][0], cy: run[0][1], r: 2.5 }));
    }
    run = [];
  };
  for (const each of samples) {
    const value = valueOf(each);
    if (value === null || value === undefined) draw();
    else run.push([x(each.at), y(value / most)]);
  }
  draw();
}

/** Shares by cause, one on top of the other. */
export function stack(svg, samples, causes, says, labels, until) {
  const { x, y } = begin(svg, says, labels, until);
  const known = samples.filter((each) => Object.keys(each.shares).length);
  let floor = known.map(() => 0);
  for (const cause of causes) {
    const ceiling = known.map((each, index) => Math.min(1, floor[index] + (each.shares[cause] ?? 0)));
    const top = known.map((each, index) => [x(each.at), y(ceiling[index])]);
    const base = known.map((each, index) => [x(each.at), y(floor[index])]).reverse();
    if (known.length > 1) svg.append(shape("polygon", { class: `cause ${cause}`, points: points([...top, ...base]) }));
    floor = ceiling;
  }
}
