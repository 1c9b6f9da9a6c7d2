"use strict";
// Draws charts when they come into view, in the colours of the page; filters tasks; unfolds long tables.
(() => {
  const page = JSON.parse(document.getElementById("page-data").textContent);
  const root = document.documentElement;
  const colour = (name) => getComputedStyle(root).getPropertyValue(name).trim();

  // ---- charts
  const scales = () => ({
    diverging: [[0, colour("--low")], [0.5, colour("--middle")], [1, colour("--high")]],
    sequential: [[0, colour("--least")], [1, colour("--most")]],
  });
  const themed = (figure) => {
    const layout = structuredClone(figure.layout);
    const paint = (axis) => {
      Object.assign(axis, { gridcolor: colour("--grid"), linecolor: colour("--rule"), tickfont: { color: colour("--quiet"), size: 11 } });
      if (axis.title) axis.title.font = { color: colour("--quiet"), size: 12 };
    };
    paint(layout.xaxis);
    paint(layout.yaxis);
    for (const shape of layout.shapes || []) shape.line.color = colour("--quiet");
    Object.assign(layout, {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", dragmode: false, autosize: true,
      margin: { l: 46, r: 10, t: 10, b: 40 }, hovermode: "closest",
      font: { family: "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif", size: 12, color: colour("--text") },
      hoverlabel: { bgcolor: colour("--ground"), bordercolor: colour("--rule"), font: { color: colour("--text") } },
    });
    const found = scales();
    const data = structuredClone(figure.data);
    for (const trace of data) if (trace.type === "heatmap") trace.colorscale = found[trace.meta];
    return { data, layout };
  };
  const draw = (box, width) => {
    const { data, layout } = themed(page.figures[Number(box.dataset.figure)]);
    if (width) Object.assign(layout, { width, autosize: false });
    box.dataset.drawn = "";
    return Plotly.react(box, data, layout, { responsive: !width, displayModeBar: false, displaylogo: false });
  };
  const boxes = [...document.querySelectorAll(".chart")];
  const redraw = () => boxes.filter((box) => "drawn" in box.dataset).forEach((box) => draw(box));
  if (typeof Plotly !== "undefined" && boxes.length) {
    const watch = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting) continue;
        watch.unobserve(entry.target);
        draw(entry.target);
      }
    }, { rootMargin: "400px" });
    boxes.forEach((box) => watch.observe(box));
    // The others that are not folded away follow one by one, so that scrolling finds them drawn.
    const waiting = boxes.filter((box) => !box.closest("details"));
    const next = () => {
      const box = waiting.find((one) => !("drawn" in one.dataset));
      if (!box) return;
      watch.unobserve(box);
      draw(box);
      setTimeout(next, 20);
    };
    setTimeout(next, 100);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
    // Paper is white, and has two columns of this width.
    const onPaper = () => {
      root.classList.add("printing");
      boxes.filter((box) => !box.closest("details:not([open])")).forEach((box) => draw(box, 310));
    };
    const onScreen = () => { root.classList.remove("printing"); redraw(); };
    addEventListener("beforeprint", onPaper);
    addEventListener("afterprint", onScreen);
  }
  // Folded tables are printed; folded charts are not.
  let unfolded = [];
  addEventListener("beforeprint", () => {
    unfolded = [...document.querySelectorAll("details:not([open]):not(.more-cards)")];
    unfolded.forEach((fold) => { fold.open = true; });
  });
  addEventListener("afterprint", () => unfolded.forEach((fold) => { fold.open = false; }));

  // ---- long tables
  const long = [...document.querySelectorAll("table")].filter((table) => table.querySelector("tr.more"));
  const buttons = [...document.querySelectorAll("button.all-rows")];
  long.forEach((table) => table.classList.add("limited"));
  buttons.forEach((button) => {
    button.hidden = false;
    button.addEventListener("click", () => {
      button.closest("section").querySelectorAll("table").forEach((table) => table.classList.remove("limited"));
      button.hidden = true;
    });
  });

  // ---- filter
  const words = document.getElementById("filter");
  if (!words) return;
  const verdict = document.getElementById("filter-verdict");
  const count = document.getElementById("filter-count");
  const marked = [...document.querySelectorAll("[data-task]")];
  const filter = () => {
    const part = words.value.trim().toLowerCase();
    const active = Boolean(part || verdict.value);
    const wanted = page.tasks.map((task) => task.name.toLowerCase().includes(part) && (!verdict.value || task.verdict === verdict.value));
    marked.forEach((node) => node.toggleAttribute("data-out", !wanted[Number(node.dataset.task)]));
    long.forEach((table) => table.classList.toggle("limited", !active));
    buttons.forEach((button) => { button.hidden = active; });
    document.querySelectorAll("details.more-cards").forEach((fold) => {
      fold.open = active && Boolean(fold.querySelector("[data-task]:not([data-out])"));
    });
    count.textContent = active ? `${wanted.filter(Boolean).length} of ${page.tasks.length} tasks` : "";
  };
  words.addEventListener("input", filter);
  verdict.addEventListener("change", filter);
  words.form.addEventListener("submit", (event) => event.preventDefault());
})();
