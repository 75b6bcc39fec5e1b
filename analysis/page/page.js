"use strict";

/* Return the sort key of a row: a number, a text, or null for an empty cell. */
function key(row, heading) {
  const cell = row.cells[heading.cellIndex];
  if ("value" in cell.dataset) return Number(cell.dataset.value);
  return heading.classList.contains("num") ? null : cell.textContent.trim() || null;
}

function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b), "en", { numeric: true });
}

/* Sort the rows of a table by a column, rows without a value last. */
function sort(heading) {
  const direction = heading.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
  const sign = direction === "ascending" ? 1 : -1;
  const body = heading.closest("table").tBodies[0];
  const rows = Array.from(body.rows, (row) => ({ row, key: key(row, heading) }));
  rows.sort((a, b) =>
    a.key === null || b.key === null ? (a.key === null) - (b.key === null) : sign * compare(a.key, b.key));
  body.append(...rows.map((item) => item.row));
  for (const other of heading.parentNode.cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", direction);
}

for (const heading of document.querySelectorAll("thead th")) {
  const name = heading.querySelector(".name");
  if (!name.textContent.trim()) continue;
  const button = document.createElement("button");
  button.type = "button";
  name.replaceWith(button);
  button.append(name);
  button.addEventListener("click", () => sort(heading));
}

function reveal(element) {
  for (let outer = element; outer; outer = outer.parentElement) if (outer.tagName === "DETAILS") outer.open = true;
}

/* A click on a number marks all its runs and scrolls to the first one. */
document.addEventListener("click", (event) => {
  const link = event.target.closest("a.runs");
  if (!link) return;
  for (const row of document.querySelectorAll("tr.hit")) row.classList.remove("hit");
  for (const id of link.dataset.runs.split(" ")) {
    const row = document.getElementById(id);
    row.classList.add("hit");
    reveal(row);
  }
});

function revealTarget() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target) { reveal(target); target.scrollIntoView(); }
}
window.addEventListener("hashchange", revealTarget);
revealTarget();

if (matchMedia("(max-width: 69.99rem)").matches) document.querySelector("nav details").open = false;
