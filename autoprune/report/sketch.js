"use strict";
// The front as plain SVG, from the traces that plotly will draw: to look at and to click while the
// browser still reads plotly, which takes a second or two. `paint` gives the colour of a role.
const sketch = (() => {
  function shape(parent, name, attributes, text = "") {
    const made = parent.appendChild(document.createElementNS("http://www.w3.org/2000/svg", name));
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.textContent = text;
    return made;
  }

  // At most seven round values in a range.
  function ticks([from, to]) {
    const least = (to - from) / 7;
    const power = 10 ** Math.floor(Math.log10(least));
    const step = [1, 2, 5, 10].map((digit) => digit * power).find((size) => size >= least);
    const first = Math.ceil(from / step);
    return Array.from({ length: Math.floor(to / step) - first + 1 }, (_, place) => (first + place) * step);
  }

  const percent = (value) => `${Number((100 * value).toPrecision(3))}%`;
  const number = (value) => Number(value.toPrecision(3)).toString();

  function axes(svg, { xaxis, yaxis, font, shapes }, x, y, paint) {
    const format = (axis) => (axis.tickformat ? percent : number);
    const [[left, right], [low, high]] = [xaxis.range.map(x), yaxis.range.map(y)];
    const lines = shape(svg, "g", { stroke: paint(xaxis.gridcolor) });
    const words = shape(svg, "g", { fill: paint(font.color), "font-size": font.size, "text-anchor": "middle" });
    for (const value of ticks(xaxis.range)) {
      shape(lines, "path", { d: `M${x(value)} ${low}V${high}` });
      shape(words, "text", { x: x(value), y: low + 17 }, format(xaxis)(value));
    }
    for (const value of ticks(yaxis.range)) {
      shape(lines, "path", { d: `M${left} ${y(value)}H${right}` });
      shape(words, "text", { x: left - 4, y: y(value) + 4, "text-anchor": "end" }, format(yaxis)(value));
    }
    shape(words, "text", { x: (left + right) / 2, y: low + 38 }, xaxis.title.text);
    const upright = `translate(${left - 48} ${(low + high) / 2}) rotate(-90)`;
    shape(words, "text", { transform: upright }, yaxis.title.text);
    for (const { x0, line } of shapes || []) {
      const dashes = { stroke: paint(line.color), "stroke-dasharray": 6 };
      shape(svg, "path", { d: `M${x(x0)} ${low}V${high}`, ...dashes });
    }
  }

  function points(svg, trace, x, y, paint) {
    const { color, size, opacity = 1, symbol = "circle" } = trace.marker;
    const fill = paint(color);
    if (trace.line) {
      const steps = trace.x.map((cost, place) => `${place ? `H${x(cost)}V` : `M${x(cost)} `}${y(trace.y[place])}`);
      shape(svg, "path", { d: steps.join(""), fill: "none", stroke: fill, "stroke-width": trace.line.width });
    }
    const look = symbol === "circle-open" ? { fill: "none", stroke: fill, "stroke-width": 2.5 } : { fill };
    const group = shape(svg, "g", { opacity, ...look });
    trace.x.forEach((cost, place) => {
      const [cx, cy] = [x(cost), y(trace.y[place])];
      const trial = trace.customdata ? { "data-trial": trace.customdata[place][0] } : {};
      if (symbol === "star") {
        shape(group, "text", { x: cx, y: cy + size / 2, "font-size": 1.5 * size, "text-anchor": "middle" }, "★");
      } else shape(group, "circle", { cx, cy, r: size / 2, ...trial });
    });
  }

  return (box, { data, layout }, paint) => {
    const { l, r, t, b } = layout.margin;
    const { clientWidth: width, clientHeight: height } = box;
    const along = ([from, to], start, length) => (value) =>
      Math.round(10 * (start + (length * (value - from)) / (to - from))) / 10;
    const x = along(layout.xaxis.range, l, width - l - r);
    const y = along(layout.yaxis.range, height - b, t + b - height);
    box.replaceChildren();
    const svg = shape(box, "svg", { width, height });
    axes(svg, layout, x, y, paint);
    data.forEach((trace) => points(svg, trace, x, y, paint));
  };
})();
