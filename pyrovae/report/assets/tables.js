"use strict";
// On paper nothing can be opened: all options are printed.
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((part) => { part.open = true; }));
// Each heading of a table becomes a button that sorts the rows: numbers by size, names by letter, empty cells last.
for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "↕";
    button.setAttribute("aria-label", `Sort by ${heading.textContent}`);
    heading.append(" ", button);
    button.addEventListener("click", () => {
      const descending = heading.getAttribute("aria-sort") !== "descending";
      const key = (row) => row.cells[column].dataset.value;
      const rows = [...table.tBodies[0].rows].sort((a, b) => {
        if (key(a) === "" || key(b) === "") return (key(a) === "") - (key(b) === "");
        const numeric = !Number.isNaN(Number(key(a))) && !Number.isNaN(Number(key(b)));
        const order = numeric ? Number(key(a)) - Number(key(b)) : key(a).localeCompare(key(b));
        return descending ? -order : order;
      });
      for (const other of headings) {
        other.removeAttribute("aria-sort");
        other.querySelector("button").textContent = "↕";
      }
      heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
      button.textContent = descending ? "↓" : "↑";
      table.tBodies[0].append(...rows);
    });
  });
}
