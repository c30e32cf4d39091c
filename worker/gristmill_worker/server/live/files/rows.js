// Nodes of the page: made of text only, and changed in place, so that what has the focus keeps it.

/** Longer texts are cut to some lines, and shown whole where somebody points. */
export const LONG = 60;

/** An element with attributes and children; strings become text, whatever they hold. */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

/** Set a text, unless it is there: a screen reader would tell it again. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Bring the children of a node in line with items; what stays keeps its node. */
export function sync(parent, items, keyOf, make, update) {
  const focused = document.activeElement;
  const wanted = new Set(items.map((item) => String(keyOf(item))));
  const known = new Map();
  for (const child of [...parent.children]) {
    if (wanted.has(child.dataset.key)) known.set(child.dataset.key, child);
    else child.remove();
  }
  let place = parent.firstElementChild;
  for (const item of items) {
    const key = String(keyOf(item));
    let node = known.get(key);
    if (!node) {
      node = make(item);
      node.dataset.key = key;
    }
    update(node, item);
    if (node === place) place = place.nextElementSibling;
    else parent.insertBefore(node, place);
  }
  if (focused && focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true });
}

/**
 * A table that is a list of cards where the window is narrow; so its roles are said, which `display` would take away.
 *
 * columns: [{ key, name, number, short, show(item, box) }]: `show` gives a text, or changes what is in the cell's box.
 */
export function table(node, caption, columns, items, keyOf) {
  node.setAttribute("role", "table");
  node.setAttribute("aria-label", caption);
  if (!node.tHead) {
    node.append(element("thead", { role: "rowgroup" }, element("tr", { role: "row" })), element("tbody", { role: "rowgroup" }));
  }
  const heads = node.tHead.rows[0];
  sync(heads, columns, (column) => column.key, () => element("th", { scope: "col", role: "columnheader" }), (head, column) => {
    say(head, column.name);
    head.classList.toggle("number", Boolean(column.number));
  });
  const row = () => element("tr", { role: "row" }, ...columns.map((column) => element("td", { role: "cell", class: column.number ? "number" : column.short ? "short" : undefined }, element("div"))));
  sync(node.tBodies[0], items, keyOf, row, (made, item) => {
    columns.forEach((column, index) => {
      const cell = made.cells[index];
      cell.dataset.label = column.name;
      const shown = column.show(item, cell.firstElementChild);
      if (typeof shown !== "string") return;
      say(cell.firstElementChild, shown);
      cell.firstElementChild.title = shown.length > LONG ? shown : "";
    });
  });
  node.hidden = items.length === 0;
}
