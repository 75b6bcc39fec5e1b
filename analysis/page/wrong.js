
/* What rows got wrong: drawn from the numbers of `wrong.py` when it is opened. */

const MINUS = "\u2212";
const TEMPLATE = document.createElement("template");
TEMPLATE.innerHTML = "<svg></svg>";
const NAMESPACE = TEMPLATE.content.firstChild.namespaceURI;  // of SVG; the page holds no address

function fixed(value, digits = 1) {
  const text = value.toFixed(digits);
  return (Number(text) === 0 ? (0).toFixed(digits) : text).replace("-", MINUS);
}

/* Return an element with attributes, and texts or elements inside. */
function made(name, attributes = {}, ...content) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...content);
  return element;
}

function drawn(name, attributes, text = "") {
  const element = document.createElementNS(NAMESPACE, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.textContent = text;
  return element;
}

/* Return a text that may break after the marks in long names. */
function breakable(text) {
  return text.split(/(?<=[_\/-])/).flatMap((part, i) => (i ? [made("wbr"), part] : [part]));
}

/* Return a table that scrolls; cells are texts, numbers (already as text) begin at column `numeric`. */
function tabular(title, columns, rows, numeric, kind = "") {
  const heading = columns.map((name, i) => made("th", { scope: "col", ...(i >= numeric ? { class: "num" } : {}) },
    made("span", { class: "name" }, name)));
  const body = rows.map((cells) => made("tr", {}, ...cells.map((cell, i) =>
    made(i ? "td" : "th", { ...(i ? {} : { scope: "row" }), ...(i >= numeric ? { class: "num" } : {}) },
      ...breakable(cell)))));
  const table = made("table", { class: kind }, made("caption", { class: "sr" }, title),
    made("thead", {}, made("tr", {}, ...heading)), made("tbody", {}, ...body));
  return made("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": title }, table);
}

function block(level, title, note, ...content) {
  return made("div", { class: "block" }, made(level, {}, title), ...content, made("p", { class: "soft small" }, note));
}

function ofSeeds(row) {
  return row.seeds.length > 1 ? `mean over ${row.seeds.length} seeds` : "one seed";
}

/* Return the whole matrix, in percent of the true class. */
function matrix(data, row) {
  const title = `Confusions of ${row.label}, percent of the true class`;
  const shown = tabular(title, ["true \\ predicted", ...data.classes, "images"],
    row.matrix.map((line, i) => [data.classes[i], ...line.map((value) => {
      const share = data.images[i] ? 100 * value / data.images[i] : 0;
      return value ? (share >= 0.5 ? share.toFixed(0) : "<1") : "";
    }), String(data.images[i])]), 1, "matrix");
  const lines = shown.querySelectorAll("tbody tr");
  row.matrix.forEach((line, i) => line.forEach((value, j) => {
    const share = data.images[i] ? value / data.images[i] : 0, cell = lines[i].cells[j + 1];
    cell.classList.add(i === j ? "right" : "wrong");
    cell.style.setProperty("--share", `${(4 + 41 * share) * (value > 0)}%`);
    cell.title = `${data.classes[i]} taken for ${data.classes[j]}: ${fixed(value)} of ${data.images[i]} images`;
  }));
  return block("h3", "Confusion matrix", `Percent of the images of each true class, ${ofSeeds(row)}.`, shown);
}

function pairs(data, row) {
  const rows = row.pairs.map(([true_, predicted, value]) => [data.classes[true_], data.classes[predicted],
    fixed(value), `${fixed(100 * value / data.images[true_])} %`]);
  const title = `Most frequent confusions of ${row.label}`;
  const note = `Images per seed, ${ofSeeds(row)}: the ${rows.length} most frequent of `
    + `${data.classes.length * (data.classes.length - 1)} possible confusions.`;
  return block("h3", "Most frequent confusions", note,
    tabular(title, ["true class", "taken for", "images", "of the class"], rows, 2));
}

function worst(data, row) {
  const rows = row.worst.map(([own, recall, low, high, other, often]) => [data.classes[own], String(data.images[own]),
    fixed(recall), `${fixed(low)} to ${fixed(high)}`,
    other === null ? "\u2013" : `${data.classes[other]} (${fixed(often)})`]);
  const note = `Recall: share of a class that is right, ${ofSeeds(row)}, with Wilson's interval for its test images. `
    + (data.classes.length > rows.length
      ? `These are the lowest of ${data.classes.length} classes: on other images they would come out higher.` : "");
  return block("h3", "Worst classes", note, tabular(`Worst classes of ${row.label}`,
    ["class", "images", "recall, %", "95 % interval", "most often taken for"], rows, 1, "worst"));
}

/* Return the reliability diagram: accuracy in each bin of confidence, and the diagonal. */
function calibration(row) {
  const left = 46, top = 8, size = 220, at = (share) => size * share / 100;
  const total = row.bins.reduce((sum, bin) => sum + bin[0], 0);
  const side = row.excess > 0 ? "too sure" : "not sure enough";
  const words = `ECE ${fixed(row.ece)} %; mean confidence ${fixed(row.accuracy + row.excess)} %, `
    + `accuracy ${fixed(row.accuracy)} %: ${side} by ${fixed(Math.abs(row.excess))} points.`;
  const said = row.bins.filter((bin) => bin[0])
    .map(([count, sure, true_]) => `${fixed(sure)}: ${fixed(true_)} (${count})`).join(", ");
  const svg = drawn("svg", { class: "chart reliability", viewBox: "0 0 286 276", role: "img",
    "aria-label": `Reliability diagram of ${row.label}. Accuracy at each mean confidence, percent (answers): ${said}.` });
  for (const tick of [0, 25, 50, 75, 100]) {
    svg.append(
      drawn("line", { class: "grid", x1: left, x2: left + size, y1: top + size - at(tick), y2: top + size - at(tick) }),
      drawn("text", { class: "tick", x: left - 6, y: top + size - at(tick) + 4, "text-anchor": "end" }, tick),
      drawn("text", { class: "tick", x: left + at(tick), y: top + size + 16, "text-anchor": "middle" }, tick));
  }
  row.bins.forEach(([count, sure, true_], i) => {
    if (!count) return;
    const width = size / row.bins.length, share = count / total;
    const bar = drawn("rect", { class: "bar", x: left + i * width + 1, y: top + size - at(true_), width: width - 2,
      height: at(true_), "fill-opacity": (0.25 + 0.75 * Math.sqrt(share)).toFixed(2) });
    bar.append(drawn("title", {}, `confidence ${fixed(sure)} %, accuracy ${fixed(true_)} %, ${count} answers`));
    svg.append(bar);
  });
  svg.append(drawn("line", { class: "base", x1: left, y1: top + size, x2: left + size, y2: top }),
    drawn("text", { class: "name", x: left + size / 2, y: top + size + 34, "text-anchor": "middle" }, "confidence, %"),
    drawn("text", { class: "name", transform: `translate(12 ${top + size / 2}) rotate(-90)`, "text-anchor": "middle" },
      "accuracy, %"));
  return block("h3", "Calibration", `${words} Bars: accuracy of the answers in each of ${row.bins.length} bins of confidence, `
    + "darker with more answers. On the dashed line confidence and accuracy agree. ECE: mean distance from it over the "
    + "answers, of each seed; with few images it is above 0 by chance."
    + (row.distances ? " Here the probabilities are a softmax of votes or distances, which are no probabilities." : ""), svg);
}

function confident(data, row) {
  const items = row.mistakes.map(([image, true_, predicted, sure, seeds]) => {
    const text = made("p", {}, made("b", {}, data.classes[predicted]), ` ${fixed(sure, 0)} %`, made("br"),
      made("span", { class: "soft" }, `is ${data.classes[true_]}`
        + (row.seeds.length > 1 ? `; ${seeds} of ${row.seeds.length} seeds` : "")));
    const picture = data.pictures[image];
    const shown = picture
      ? made("img", { src: `data:image/jpeg;base64,${picture}`, loading: "lazy",
        alt: `Test image ${image}: ${data.classes[true_]} taken for ${data.classes[predicted]}` })
      : made("p", { class: "soft nothing" }, `test image ${image}`);
    return made("li", {}, shown, text);
  });
  if (!items.length) return block("h3", "Most confident mistakes", "There is none.");
  return block("h3", "Most confident mistakes", "Above: the predicted class and its probability, a mean over the seeds that "
    + "predict it. Ordered by the mean probability on wrong classes over all seeds.",
    made("ul", { class: "mistakes" }, ...items));
}

/* Return two rows image by image; `a` and `b` are their numbers. */
function together(data, a, b) {
  if (a === b) return made("p", { class: "soft" }, "These are the same row: choose two.");
  const [low, high] = a < b ? [a, b] : [b, a], num = data.rows.length;
  const found = data.two[low * num - low * (low + 1) / 2 + high - low - 1];
  const [first, second] = [data.rows[a].label, data.rows[b].label];
  const [upper, lower] = [data.rows[low].label, data.rows[high].label];
  const seeds = found.seeds.map(([seed, both, onlyLow, onlyHigh, neither, p]) =>
    [seed, both, a < b ? onlyLow : onlyHigh, a < b ? onlyHigh : onlyLow, neither, p]);
  const sums = [1, 2, 3, 4].map((i) => seeds.reduce((sum, line) => sum + line[i], 0));
  if (seeds.length > 1) seeds.push(["all", ...sums, ""]);
  const counts = tabular(`Test images by who has them right: ${first} and ${second}`,
    ["seed", "both right", `only ${first}`, `only ${second}`, "both wrong", "McNemar, exact"],
    seeds.map((line) => line.map(String)), 1);
  const [one, other] = [data.rows[a], data.rows[b]];
  const classes = data.classes.map((name, i) => ({ name, num: data.images[i], a: 100 * one.right[i] / data.images[i],
    b: 100 * other.right[i] / data.images[i] })).filter((item) => item.num);
  classes.sort((x, y) => Math.abs(y.a - y.b) - Math.abs(x.a - x.b));
  const shown = classes.slice(0, 12).map((item) => [item.name, String(item.num), fixed(item.a), fixed(item.b),
    (item.a > item.b ? "+" : "") + fixed(item.a - item.b)]);
  const note = seeds.length
    ? `${upper} is ${found.text} from ${lower}: ${found.verdict} (over seeds and test images, not corrected for the number of pairs). `
      + "McNemar's test asks of each seed whether its two models differ on such images; the seeds share their images, so "
      + "their sum has no p-value."
    : "They have no seed in common.";
  return made("div", { class: "figures" },
    block("h4", "Images", note, counts),
    block("h4", "Classes that differ most", "Recall in percent, a mean over seeds.", tabular(
      `Recall by class: ${first} and ${second}`, ["class", "images", first, second, "difference"], shown, 1)));
}

function choice(id, title, data, selected, change) {
  const select = made("select", { id }, ...data.rows.map((row, i) => made("option", { value: i }, row.label)));
  select.value = selected;
  select.addEventListener("change", change);
  return [made("span", {}, made("label", { for: id }, title), " ", select), select];
}

/* Fill one opened part. */
function showWrong(details) {
  const view = details.querySelector(".view");
  if (view.childElementCount) return;
  const data = JSON.parse(details.querySelector("script").textContent), id = details.id;
  const one = made("div", { class: "figures", "aria-live": "polite" });
  const two = made("div", { "aria-live": "polite" });
  const [label, row] = choice(`${id}-row`, "Row", data, data.first, draw);
  const [labelA, a] = choice(`${id}-a`, "A", data, data.first, drawTwo);
  const [labelB, b] = choice(`${id}-b`, "B", data, data.second, drawTwo);
  function draw() {
    const own = data.rows[row.value];
    one.replaceChildren(own.matrix ? matrix(data, own) : pairs(data, own), worst(data, own), calibration(own),
      confident(data, own));
  }
  function drawTwo() {
    two.replaceChildren(together(data, Number(a.value), Number(b.value)));
  }
  draw();
  view.append(made("p", { class: "choice" }, label), one);
  if (data.rows.length > 1) {
    drawTwo();
    view.append(made("h3", {}, "Two rows, image by image"), made("p", { class: "choice" }, labelA, labelB), two);
  }
}

for (const details of document.querySelectorAll("details.wrong")) {
  details.addEventListener("toggle", () => { if (details.open) showWrong(details); });
  if (details.open) showWrong(details);
}
