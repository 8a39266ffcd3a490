"use strict";
// A latent space to move through: a plane with the held-out points, a slider for each latent, and the decoded x beside it.
const CLASS_COLOURS = [
  "#332288", "#88ccee", "#117733", "#ddcc77", "#cc6677", "#882255", "#44aa99", "#999933", "#aa4499", "#888888",
];
const PLANE = 360;

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

class Explorer {
  constructor(space, host) {
    this.space = space;
    this.layers = space.kind === "network" ? readLayers(space.layers) : null;
    this.codes = floatsOf(space.points.z);
    this.size = space.latents.length;
    this.dim = space.view.shape ? space.view.shape[0] * space.view.shape[1] : space.view.columns.length;
    this.shown = this.readX(space.points.x);
    this.decodedGrid = space.grid ? this.readX(space.grid.x) : null;
    [this.across, this.up] = space.order;
    this.z = [...space.start];
    this.canMoveAll = this.layers !== null || this.size === 2;
    this.build(host);
    this.update();
  }

  readX(base64) {
    return this.space.view.shape ? Float32Array.from(bytesOf(base64), (level) => level / 255) : floatsOf(base64);
  }

  build(host) {
    const { space } = this;
    const [a, b] = [space.latents[this.across], space.latents[this.up]];
    this.plane = element("canvas", {
      width: PLANE, height: PLANE, tabindex: 0, role: "application",
      "aria-label": `Plane of ${a} and ${b}. Arrow keys move the point; N takes the nearest held-out point.`,
    });
    this.plane.className = "plane";
    this.picture = this.newPicture("The decoded x");
    this.nearestPicture = this.newPicture("The nearest held-out point");
    this.status = element("p", { "aria-live": "polite", class: "status" });
    const pictures = element("div", { class: "pictures" },
      element("div", {}, element("p", {}, "decoded, E[x|z]"), this.picture),
      element("div", {}, element("p", {}, "nearest held-out point"), this.nearestPicture), this.status);
    const how = this.layers
      ? "This page computes the decoder itself."
      : `The decoder is too large for this page, or of a kind that it does not know: the page shows the nearest of ${
          space.grid.across.length} × ${space.grid.up.length} values decoded beforehand${
          this.size > 2 ? ", with the other latents at the median" : ""}.`;
    host.replaceChildren(
      element("p", {}, `Held-out points lie at their posterior means. Click, drag or use the arrow keys.${
        space.view.shape ? "" : " Bars are distances from the training mean, in standard deviations."} ${how}`),
      element("div", { class: space.view.shape ? "explorer" : "explorer table" },
        element("div", {}, this.plane, element("p", { class: "axes" }, `across: ${a}; up: ${b}`)), pictures, this.newSliders()));
    this.listen();
  }

  newPicture(label) {
    const [height, width] = this.space.view.shape || [22 * this.dim, 330];
    const canvas = element("canvas", { width, height, role: "img", "aria-label": label });
    canvas.className = this.space.view.shape ? "image" : "columns";
    return canvas;
  }

  newSliders() {
    const { space } = this;
    const box = element("div", { class: "sliders" });
    this.sliders = space.order.map((latent) => {
      const [low, high] = [space.low[latent], space.high[latent]];
      const slider = element("input", { type: "range", min: low, max: high, step: (high - low) / 200 });
      const output = element("output");
      const kl = space.kl[latent] === null ? "" : `, KL ${space.kl[latent].toFixed(2)} nats`;
      slider.addEventListener("input", () => {
        this.z[latent] = Number(slider.value);
        this.update();
      });
      box.append(element("label", {}, element("span", {}, `${space.latents[latent]}${kl}`), slider, output));
      return { latent, slider, output };
    });
    if (!this.canMoveAll) return box;
    const last = space.points.count - 1;
    const [from, to] = [0, Math.min(1, last)].map((value) => element("input", { type: "number", min: 0, max: last, value }));
    this.walk = element("input", { type: "range", min: 0, max: 1, step: 0.01, value: 0 });
    const go = () => {
      const [a, b] = [from, to].map((input) => this.code(Math.min(last, Math.max(0, Math.round(Number(input.value) || 0)))));
      const t = Number(this.walk.value);
      this.z = a.map((value, j) => (1 - t) * value + t * b[j]);
      this.update();
    };
    for (const input of [from, to, this.walk]) input.addEventListener("input", go);
    box.append(element("fieldset", {}, element("legend", {}, "Walk between two held-out points"),
      element("label", {}, element("span", {}, "from point"), from), element("label", {}, element("span", {}, "to point"), to),
      element("label", {}, element("span", {}, "way"), this.walk)));
    return box;
  }

  listen() {
    const point = (event) => {
      const box = this.plane.getBoundingClientRect();
      this.z[this.across] = this.unscale(this.across, (event.clientX - box.left) / box.width);
      this.z[this.up] = this.unscale(this.up, 1 - (event.clientY - box.top) / box.height);
      this.update();
    };
    this.plane.addEventListener("pointerdown", (event) => {
      this.plane.setPointerCapture(event.pointerId);
      point(event);
    });
    this.plane.addEventListener("pointermove", (event) => event.buttons && point(event));
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowDown: [0, -1], ArrowUp: [0, 1] };
    this.plane.addEventListener("keydown", (event) => {
      if (event.key.toLowerCase() === "n") {
        this.z = this.canMoveAll ? this.code(this.nearest()) : this.z;
      } else if (event.key in moves) {
        event.preventDefault();
        [this.across, this.up].forEach((latent, axis) => {
          const step = moves[event.key][axis] * (this.space.high[latent] - this.space.low[latent]) / 50;
          this.z[latent] = Math.min(this.space.high[latent], Math.max(this.space.low[latent], this.z[latent] + step));
        });
      } else return;
      this.update();
    });
  }

  scale(latent, value) {
    return (value - this.space.low[latent]) / (this.space.high[latent] - this.space.low[latent]);
  }

  unscale(latent, share) {
    return this.space.low[latent] + Math.min(1, Math.max(0, share)) * (this.space.high[latent] - this.space.low[latent]);
  }

  code(point) {
    return [...this.codes.subarray(point * this.size, (point + 1) * this.size)];
  }

  nearest() {
    let [best, least] = [0, Infinity];
    for (let point = 0; point < this.space.points.count; point++) {
      const latents = this.canMoveAll ? this.z.map((_, j) => j) : [this.across, this.up];
      const distance = latents.reduce((sum, j) => sum + (this.codes[point * this.size + j] - this.z[j]) ** 2, 0);
      if (distance < least) [best, least] = [point, distance];
    }
    return best;
  }

  decoded() {
    if (this.layers) {
      const x = decode(this.layers, this.z);
      return this.space.view.shape ? x.map((value) => greyOf(this.space.view, value)) : x;
    }
    const place = (values, value) =>
      values.reduce((best, each, k) => (Math.abs(each - value) < Math.abs(values[best] - value) ? k : best), 0);
    const { across, up } = this.space.grid;
    const cell = place(up, this.z[this.up]) * across.length + place(across, this.z[this.across]);
    return this.decodedGrid.subarray(cell * this.dim, (cell + 1) * this.dim);
  }

  update() {
    this.drawPlane();
    const point = this.nearest();
    const x = this.decoded();
    this.draw(this.picture, x);
    this.draw(this.nearestPicture, this.shown.subarray(point * this.dim, (point + 1) * this.dim));
    for (const { latent, slider, output } of this.sliders) {
      slider.value = this.z[latent];
      output.textContent = this.z[latent].toFixed(2);
    }
    const label = this.space.labels ? this.space.labels[point] : null;
    const name = label === null ? "" : `, label ${this.space.label_names[label] || label}`;
    this.status.textContent = `z = (${this.z[this.across].toFixed(2)}, ${this.z[this.up].toFixed(2)}, …)`
      .replace(", …", this.size > 2 ? ", …" : "") + `; nearest is point ${point}${name}.`;
    this.picture.dataset.first = x[Math.floor(this.dim / 2)].toFixed(4);
  }

  drawPlane() {
    const page = this.plane.getContext("2d");
    const style = getComputedStyle(this.plane);
    page.clearRect(0, 0, PLANE, PLANE);
    for (let point = 0; point < this.space.points.count; point++) {
      const label = this.space.labels ? this.space.labels[point] : 0;
      page.fillStyle = CLASS_COLOURS[label % CLASS_COLOURS.length];
      page.beginPath();
      page.arc(this.scale(this.across, this.codes[point * this.size + this.across]) * PLANE,
        (1 - this.scale(this.up, this.codes[point * this.size + this.up])) * PLANE, 3.5, 0, 2 * Math.PI);
      page.fill();
    }
    this.writeNames(page, style.color);
    const [left, top] = [this.scale(this.across, this.z[this.across]) * PLANE, (1 - this.scale(this.up, this.z[this.up])) * PLANE];
    page.strokeStyle = style.color;
    page.lineWidth = 2;
    page.beginPath();
    page.arc(left, top, 9, 0, 2 * Math.PI);
    page.moveTo(left - 15, top);
    page.lineTo(left + 15, top);
    page.moveTo(left, top - 15);
    page.lineTo(left, top + 15);
    page.stroke();
  }

  writeNames(page, colour) {
    if (!this.space.labels) return;
    page.font = "bold 13px system-ui, sans-serif";
    page.textAlign = "center";
    for (const label of new Set(this.space.labels)) {
      const own = this.space.labels.flatMap((each, point) => (each === label ? [point] : []));
      const middle = (latent) => own.map((point) => this.codes[point * this.size + latent]).sort((a, b) => a - b)[own.length >> 1];
      const place = [this.scale(this.across, middle(this.across)) * PLANE, (1 - this.scale(this.up, middle(this.up))) * PLANE];
      page.lineWidth = 3;
      page.strokeStyle = getComputedStyle(this.plane).backgroundColor;
      page.strokeText(this.space.label_names[label] || label, ...place);
      page.fillStyle = colour;
      page.fillText(this.space.label_names[label] || label, ...place);
    }
  }

  draw(canvas, x) {
    const page = canvas.getContext("2d");
    if (this.space.view.shape) {
      const image = page.createImageData(canvas.width, canvas.height);
      x.forEach((level, k) => image.data.set([255 * (1 - level), 255 * (1 - level), 255 * (1 - level), 255], 4 * k));
      page.putImageData(image, 0, 0);
      return;
    }
    const { columns, mean, sd } = this.space.view;
    page.clearRect(0, 0, canvas.width, canvas.height);
    page.font = "13px system-ui, sans-serif";
    columns.forEach((name, j) => {
      const length = Math.max(-3, Math.min(3, (x[j] - mean[j]) / (sd[j] || 1))) * 20; // 20 pixels a standard deviation
      page.fillStyle = length < 0 ? "#e08214" : "#8073ac";
      page.fillRect(268, 22 * j + 4, length, 14);
      page.fillStyle = getComputedStyle(canvas).color;
      page.fillRect(267, 22 * j, 1, 22);
      page.textAlign = "left";
      page.fillText(name, 0, 22 * j + 16, 145);
      page.textAlign = "right";
      page.fillText(x[j].toFixed(2), 198, 22 * j + 16);
    });
  }
}

const spaces = JSON.parse(document.getElementById("explorers").textContent);
const explorerHost = document.getElementById("spaces");
if (explorerHost && spaces.length) {
  const inside = element("div");
  const choice = element("select", { id: "explored" }, ...spaces.map((space, k) => element("option", { value: k }, space.name)));
  let shown;
  const show = () => { shown = new Explorer(spaces[choice.value], inside); };
  choice.addEventListener("change", show);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => shown.update());
  explorerHost.replaceChildren(element("label", { for: "explored" }, "Model ", choice), inside);
  show();
}
