// Which rows of a long grid are near the window. Pure.

/** How many columns of at least `least` pixels fit, and how wide each is. */
export function columnsOf(width, least, gap) {
  const columns = Math.max(2, Math.floor((width + gap) / (least + gap)));
  return { columns, tile: (width - gap * (columns - 1)) / columns };
}

/**
 * The rows to draw: those in sight, and `spare` more on both sides.
 * @param {number} above pixels of the grid that are above the window's upper edge
 */
export function rowsInSight({ above, height, rowHeight, rows, spare = 3 }) {
  const first = Math.max(0, Math.floor(above / rowHeight) - spare);
  const last = Math.min(rows, Math.ceil((above + height) / rowHeight) + spare);
  return { first: Math.min(first, last), last };
}
