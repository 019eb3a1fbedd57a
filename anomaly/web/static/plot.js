// Draws months as heat maps, and the plots of flags and of calibration, from the JSON beside them. No request, no inline style, no global name.
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
    const peers = (style) => ({ width: 1.5, color: colour("--peers"), ...style });
    const company = series.peers
      ? [line("middle of the peers", series.peers[0], peers({})), line("95 of 100 peers below", series.peers[1], peers({ dash: "dot" }))]
      : [];
    return [
      { ...line("usual from", series.lower, bounds) },
      { ...line("usual up to", series.upper, bounds), fill: "tonexty", fillcolor: colour("--band") },
      ...company,
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
    if (scale === "all") lines.push(series.observed, ...(series.peers ?? []));
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
    show().then(() => drawn(figure));
  };

  const drawn = (figure) => {
    // The plot is described as a whole; its layers would be read out as nameless pictures.
    document.querySelectorAll("svg.main-svg, #js-plotly-tester")
      .forEach((layer) => layer.setAttribute("aria-hidden", "true"));
    figure.setAttribute("data-drawn", "");
  };

  const DECADE_TICKS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50];

  const curves = (truth, kind) =>
    truth.kinds[kind].map((curve) => {
      const ink = colour(curve.off ? "--flagged" : "--observed");
      return {
        type: "scatter", mode: "lines+markers", name: curve.name, x: curve.promised, y: curve.ratio,
        text: curve.label, hovertemplate: "%{y:.2f} (%{text})", opacity: curve.off ? 1 : 0.75,
        line: { width: 2, color: ink, dash: curve.side === "lower" ? "dash" : "solid" },
        marker: { size: 6, color: ink },
      };
    });

  const truthLayout = (truth, kind) => {
    const ratios = truth.kinds[kind].flatMap((curve) => curve.ratio);
    const reach = Math.log10(Math.max(2.5, ...ratios, ...ratios.map((ratio) => 1 / ratio))) * 1.1;
    const rare = truth.depths[truth.depths.length - 1];
    const aim = [1 / truth.within, truth.within];
    return {
      ...layout({ lower: [0], upper: [1], expected: [], observed: [], flagged: [] }, "band"),
      annotations: [],
      hovermode: "closest",
      xaxis: {
        automargin: true, type: "log", fixedrange: true, gridcolor: colour("--grid"), zeroline: false,
        title: { text: "promised chance" }, range: [Math.log10(truth.depths[0]) + 0.2, Math.log10(rare) - 0.2],
        tickvals: truth.depths, ticktext: truth.depths.map((depth) => `1 in ${depth > 0.002 ? Math.round(1 / depth) : `${Math.round(0.001 / depth)}k`}`),
      },
      yaxis: {
        automargin: true, type: "log", fixedrange: true, gridcolor: colour("--grid"), zeroline: false,
        title: { text: "seen / promised" }, range: [-reach, reach],
        tickvals: DECADE_TICKS, ticktext: DECADE_TICKS.map(String),
      },
      shapes: [
        {
          type: "rect", xref: "paper", yref: "y", x0: 0, x1: 1, y0: aim[0], y1: aim[1], layer: "below",
          fillcolor: colour("--band"), line: { width: 0 },
        },
        {
          type: "line", xref: "paper", yref: "y", x0: 0, x1: 1, y0: 1, y1: 1, layer: "below",
          line: { width: 1, color: colour("--expected") },
        },
      ],
    };
  };

  const drawTruth = (figure) => {
    const truth = JSON.parse(figure.querySelector("script").textContent);
    const plot = figure.querySelector(".plot");
    const buttons = [...figure.querySelectorAll("button[data-kind]")];
    let kind = buttons[0].dataset.kind;
    const show = () =>
      Plotly.react(plot, curves(truth, kind), truthLayout(truth, kind), { displayModeBar: false, responsive: true });
    buttons.forEach((button) =>
      button.addEventListener("click", () => {
        kind = button.dataset.kind;
        buttons.forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
        show();
      }),
    );
    figure.querySelector(".tools").hidden = false;
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
    show().then(() => drawn(figure));
  };

  const STRONG = 6; // usual deviations at which a colour is full
  // Within two usual deviations a cell stays neutral: ordinary weeks must not look like incidents.
  const DEPARTURES = [[0, "--less"], [0.2, "--little-less"], [1 / 3, "--same"], [2 / 3, "--same"], [0.8, "--little-more"], [1, "--more"]];
  const AMOUNTS = [[0, "--same"], [1, "--observed"]];
  const mapColours = (shown) =>
    (shown === "departure" ? DEPARTURES : AMOUNTS).map(([at, name]) => [at, colour(name)]);

  const spoken = (map) =>
    map.parts.map((part, row) =>
      map.days.map((day, column) => {
        const observed = map.observed[row][column];
        const usual = map.usual[row][column];
        const amount = observed === null ? "nothing observed" : `${observed.toLocaleString("en")} ${map.metric}`;
        const compared = usual === null ? "" : `<br>usual: ${usual.toLocaleString("en", { maximumFractionDigits: 1 })}`;
        return `${day}, ${part}<br>${amount}${compared}`;
      }),
    );

  // Cells are centred on whole numbers, outlines run along their edges.
  const outline = (corners) =>
    `M${corners.map(([x, y]) => `${x - 0.5},${y - 0.5}`).join("L")}Z`;

  // Square roots, so that one large amount does not turn all others into nothing.
  const root = (value) => (value === null ? null : Math.sign(value) * Math.sqrt(Math.abs(value)));

  const cells = (map, shown) => {
    const z = shown === "departure" ? map.departure : map.observed.map((row) => row.map(root));
    const ends = shown === "departure" ? { zmin: -STRONG, zmax: STRONG } : {};
    return [{
      type: "heatmap", z, text: spoken(map), hovertemplate: "%{text}<extra></extra>", showscale: false,
      colorscale: mapColours(shown), xgap: 1, ygap: 1, hoverongaps: true, ...ends,
    }];
  };

  const mapLayout = (map, narrow) => {
    const rows = map.parts.length;
    const every = rows > 12 ? 6 : 1;
    const shownDay = (index) => !narrow || index % 5 === 0;
    return {
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: SYSTEM_FONT, size: 13, color: colour("--text") },
      margin: { l: 8, r: 8, t: 22, b: 8 },
      showlegend: false,
      dragmode: false,
      hoverlabel: { bgcolor: colour("--card"), bordercolor: colour("--line"), font: { color: colour("--text") }, align: "left" },
      xaxis: {
        automargin: true, fixedrange: true, showgrid: false, zeroline: false, range: [-0.5, map.days.length - 0.5],
        tickvals: map.days.map((_, index) => index).filter(shownDay), ticktext: map.ticks.filter((_, index) => shownDay(index)),
        tickangle: 0,
      },
      yaxis: {
        automargin: true, fixedrange: true, showgrid: false, zeroline: false, range: [rows - 0.5, -0.5],
        tickvals: map.parts.map((_, index) => index).filter((index) => index % every === 0).map((index) => index - 0.5),
        ticktext: map.parts.filter((_, index) => index % every === 0),
      },
      shapes: map.flags.map((flag) => ({
        type: "path", path: outline(flag.outline), xref: "x", yref: "y",
        line: { width: 2.5, color: colour("--text"), dash: flag.named ? "solid" : "dot" },
      })),
      annotations: map.flags.map((flag) => ({
        x: flag.outline[0][0] - 0.5, y: flag.outline[0][1] - 0.5, xref: "x", yref: "y", xanchor: "left", yanchor: "bottom",
        text: String(flag.number), showarrow: false, captureevents: true, borderpad: 2, yshift: 2,
        bgcolor: colour("--text"), font: { color: colour("--card"), size: 12, weight: 700 },
      })),
    };
  };

  const drawMap = (figure) => {
    const map = JSON.parse(figure.querySelector("script").textContent);
    const plot = figure.querySelector(".plot");
    const buttons = [...figure.querySelectorAll("button[data-shown]")];
    const phone = window.matchMedia("(max-width: 45rem)");
    let shown = buttons[0].dataset.shown;
    plot.classList.toggle("flat", map.parts.length < 4);
    const show = () =>
      Plotly.react(plot, cells(map, shown), mapLayout(map, phone.matches), { displayModeBar: false, responsive: true });
    buttons.forEach((button) =>
      button.addEventListener("click", () => {
        shown = button.dataset.shown;
        buttons.forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
        figure.querySelectorAll("[data-shows]").forEach((part) => { part.hidden = part.dataset.shows !== shown; });
        show();
      }),
    );
    figure.querySelector(".tools").hidden = buttons.length < 2;
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
    phone.addEventListener("change", show);
    show().then(() => {
      plot.on("plotly_clickannotation", (event) => { window.location.href = map.flags[event.index].url; });
      drawn(figure);
    });
  };

  document.querySelectorAll("[data-map]").forEach(drawMap);
  document.querySelectorAll("[data-plot]").forEach(draw);
  document.querySelectorAll("[data-calibration]").forEach(drawTruth);
})();
