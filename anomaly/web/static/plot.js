// Draws each flag's plot from the JSON beside it. No request, no inline style, no global name.
"use strict";

(() => {
  const SYSTEM_FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif';

  const colour = (name) =>
    getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  // A step holds its value until the next begins: one more point closes the last one.
  const closed = (values) => (values.length ? [...values, values[values.length - 1]] : values);

  const within = (series) => (value, index) => {
    const time = series.times[index];
    return time >= series.flagged[0] && time < series.flagged[1] ? value : null;
  };

  // The flagged steps, each drawn to its end: the line must not stop half a step early.
  const flaggedLine = (series) => {
    const x = [];
    const y = [];
    series.observed.map(within(series)).forEach((value, index) => {
      if (value === null) return;
      x.push(series.times[index], series.times[index + 1] ?? series.end);
      y.push(value, value);
    });
    return { x, y };
  };

  const traces = (series) => {
    const x = series.times.length ? [...series.times, series.end] : [];
    const line = (name, values, style) => ({
      type: "scatter", mode: "lines", name, x, y: closed(values),
      line: { shape: "hv", ...style }, hovertemplate: `${name} %{y:,.4~g}<extra></extra>`,
    });
    const bounds = { width: 0, color: colour("--expected") };
    return [
      { ...line("usual from", series.lower, bounds) },
      { ...line("usual up to", series.upper, bounds), fill: "tonexty", fillcolor: colour("--band") },
      line("expected", series.expected, { width: 2, dash: "dash", color: colour("--expected") }),
      line("observed", series.observed, { width: 2, color: colour("--observed") }),
      {
        type: "scatter", mode: "lines", name: "flagged", ...flaggedLine(series),
        line: { width: 4, color: colour("--flagged") }, hoverinfo: "skip",
      },
    ];
  };

  const top = (...lines) => {
    const values = lines.flat().filter((value) => value !== null);
    return values.length ? Math.max(...values) : 1;
  };
  const bottom = (...lines) => {
    const values = lines.flat().filter((value) => value !== null);
    return values.length ? Math.min(...values) : 0;
  };

  const heights = (series, scale) => {
    const lines = [series.lower, series.upper, series.expected];
    if (scale === "all") lines.push(series.observed);
    const high = top(...lines);
    const low = Math.min(0, bottom(...lines));
    const room = (high - low || 1) * 0.08;
    // A line along zero would lose its lower half at the edge.
    return [low < 0 ? low - room : -room / 4, high + room];
  };

  const layout = (series, scale) => ({
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: SYSTEM_FONT, size: 13, color: colour("--text") },
    margin: { l: 8, r: 8, t: 26, b: 8 },
    showlegend: false,
    hovermode: "x unified",
    hoverlabel: { bgcolor: colour("--card"), bordercolor: colour("--line"), font: { color: colour("--text") } },
    dragmode: false,
    xaxis: { automargin: true, gridcolor: colour("--grid"), fixedrange: true, zeroline: false },
    yaxis: {
      automargin: true, gridcolor: colour("--grid"), fixedrange: true, range: heights(series, scale),
      zerolinecolor: colour("--line"), tickformat: ",~s",
    },
    shapes: [{
      type: "rect", xref: "x", yref: "paper", layer: "below", y0: 0, y1: 1,
      x0: series.flagged[0], x1: series.flagged[1], fillcolor: colour("--flagged-span"),
      line: { width: 1, dash: "dot", color: colour("--flagged") },
    }],
    annotations: [{
      xref: "x", yref: "paper", x: series.flagged[0], y: 1, xanchor: "left", yanchor: "bottom",
      text: "flagged", showarrow: false, font: { color: colour("--flagged") },
    }],
  });

  const draw = (figure) => {
    const series = JSON.parse(figure.querySelector("script").textContent);
    const plot = figure.querySelector(".plot");
    const buttons = [...figure.querySelectorAll("button[data-scale]")];
    let scale = "all";
    const show = () =>
      Plotly.react(plot, traces(series), layout(series, scale), { displayModeBar: false, responsive: true });
    buttons.forEach((button) =>
      button.addEventListener("click", () => {
        scale = button.dataset.scale;
        buttons.forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
        show();
      }),
    );
    figure.querySelector(".tools").hidden = false;
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
    show().then(() => {
      // The plot is described as a whole; its layers would be read out as nameless pictures.
      document.querySelectorAll("svg.main-svg, #js-plotly-tester")
        .forEach((layer) => layer.setAttribute("aria-hidden", "true"));
      figure.setAttribute("data-drawn", "");
    });
  };

  document.querySelectorAll("[data-plot]").forEach(draw);
})();
