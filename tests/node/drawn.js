// Numbers drawn by chance, the same for the same words: mulberry32, begun with a hash of them.

module.exports = function chance(words) {
  let state = [...words].reduce((h, c) => Math.imul(h ^ c.charCodeAt(0), 0x01000193), 0x811c9dc5);
  function drawn(from, to) {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return from + (((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * (to - from);
  }
  return { drawn, count: (from, to) => Math.floor(drawn(from, to + 1)) };
};
