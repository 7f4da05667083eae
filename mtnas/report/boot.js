"use strict";
// Draws every figure of the page in the page's own colours, and again when the reader changes between light and dark.
(function () {
  const dark = window.matchMedia("(prefers-color-scheme: dark)");

  function variable(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  }

  function resolved(value) {
    if (typeof value === "string") {
      return value.replace(/^var\((--[a-z]+)\)$/, (_, name) => variable(name));
    }
    if (Array.isArray(value)) {
      return value.map(resolved);
    }
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([key, entry]) => [key, resolved(entry)]));
    }
    return value;
  }

  function axis(given) {
    const own = { gridcolor: variable("--line"), zerolinecolor: variable("--line"), linecolor: variable("--line"), fixedrange: true };
    return Object.assign(own, given || {});
  }

  function layout(given) {
    const shared = {
      font: { family: variable("--font"), size: 12, color: variable("--text") },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      margin: { l: 56, r: 18, t: 34, b: 46 },
      hoverlabel: {
        bgcolor: variable("--card"),
        bordercolor: variable("--line"),
        font: { color: variable("--text"), size: 12 },
        align: "left",
      },
      hovermode: "closest",
    };
    const whole = Object.assign(shared, given);
    whole.xaxis = axis(whole.xaxis);
    whole.yaxis = axis(whole.yaxis);
    return whole;
  }

  function draw() {
    for (const plot of document.querySelectorAll(".plot")) {
      const given = resolved(JSON.parse(plot.nextElementSibling.textContent));
      const settings = { responsive: true, displayModeBar: false, displaylogo: false };
      Plotly.react(plot, given.data, layout(given.layout), settings);
    }
    const drawn = [...document.querySelectorAll(".plot")].filter((plot) => plot.querySelector(".main-svg"));
    document.documentElement.dataset.drawn = String(drawn.length);
  }

  // a figure inside closed details has no width when it is first drawn
  for (const details of document.querySelectorAll("details")) {
    details.addEventListener("toggle", () => details.querySelectorAll(".plot").forEach((plot) => Plotly.Plots.resize(plot)));
  }
  draw();
  dark.addEventListener("change", draw);
})();
