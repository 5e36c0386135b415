"use strict";
// A click on a heading sorts its table: numbers by value, what has none last, everything else as text.
for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const falls = heading.getAttribute("aria-sort") === "ascending";
      headings.forEach((each) => each.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", falls ? "descending" : "ascending");
      const text = (row) => row.cells[column].dataset.sort ?? row.cells[column].textContent.trim();
      const number = (row) => {
        const found = /^[+-]?\d[\d,]*\.?\d*(e[+-]?\d+)?/.exec(text(row).replace("<", ""));
        return found ? Number(found[0].replaceAll(",", "")) : NaN;
      };
      const rows = [...table.tBodies[0].rows];
      const isNumeric = rows.some((row) => !Number.isNaN(number(row)));
      rows.sort((first, second) => {
        const order = falls ? -1 : 1;
        if (!isNumeric) return order * text(first).localeCompare(text(second));
        const [a, b] = [number(first), number(second)];
        if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
        return order * (a - b);
      });
      table.tBodies[0].append(...rows);
    });
  });
}
