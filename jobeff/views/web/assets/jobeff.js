// Shows the values under the pointer; the arrow keys go from one sample to the next. Text is only ever set as text.
"use strict";
(() => {
  // A link to what is folded opens it.
  const unfold = () => {
    const target = document.getElementById(location.hash.slice(1));
    if (target instanceof HTMLDetailsElement) target.open = true;
  };
  addEventListener("hashchange", unfold);
  unfold();

  const holder = document.getElementById("plot-data");
  if (!holder) return;
  const all = JSON.parse(holder.textContent);

  function nearest(times, time) {
    let low = 0, high = times.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (times[middle] < time) low = middle + 1; else high = middle;
    }
    return low > 0 && time - times[low - 1] < times[low] - time ? low - 1 : low;
  }

  for (const figure of document.querySelectorAll("figure.plot")) {
    const panel = all.panels[Number(figure.dataset.panel)];
    const readout = figure.querySelector(".readout");
    const boxes = [...figure.querySelectorAll("svg.lines")];
    if (!readout || !panel.times.length) continue;
    let at = -1;

    const show = (place) => {
      at = Math.max(0, Math.min(panel.times.length - 1, place));
      const x = 1000 * (panel.times[at] - all.from) / (all.to - all.from);
      for (const box of boxes) box.querySelector(".cursor").setAttribute("d", `M${x} 0V100`);
      const told = panel.series.map((one) => {
        const value = one.values[at];
        return `${one.label} ${value === null ? "unknown" : `${value.toLocaleString("en-US")} ${one.unit}`}`;
      });
      readout.textContent = `${panel.local[at]}: ${told.join("; ")}`;
    };
    for (const box of boxes) {
      const point = (event) => {
        const place = box.getBoundingClientRect();
        const share = (event.clientX - place.left) / place.width;
        show(nearest(panel.times, all.from + share * (all.to - all.from)));
      };
      box.addEventListener("pointermove", point);
      box.addEventListener("pointerdown", point);
    }
    figure.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step) return;
      event.preventDefault();
      show(at < 0 ? 0 : at + step);
    });
  }
})();
