// The transcript as a file. Cues are at most two lines of 42 characters and 7 s.

const MAX_LINE = 42;
const MAX_CUE_S = 7;
const MIN_CUE_S = 0.8;
const TICK_S = 0.04;

export const FORMATS = {
  txt: { type: "text/plain", write: (finals) => finals.map((final) => `${final.text}\n`).join("") },
  json: { type: "application/json", write: (finals) => `${JSON.stringify({ segments: finals }, null, 2)}\n` },
  srt: {
    type: "application/x-subrip",
    write: (finals) => cues(finals).map((cue, index) =>
      `${index + 1}\n${clock(cue.start, ",")} --> ${clock(cue.end, ",")}\n${cue.text}\n\n`).join(""),
  },
  vtt: {
    type: "text/vtt",
    write: (finals) => "WEBVTT\n\n" + cues(finals).map((cue) =>
      `${clock(cue.start, ".")} --> ${clock(cue.end, ".")}\n${escape(cue.text)}\n\n`).join(""),
  },
};

export function cues(finals) {
  const pieces = finals.flatMap((final) => cut(final.words));
  const starts = [];
  // A tick apart even where the times given are not: a player drops cues that begin together.
  for (const words of pieces) starts.push(Math.max(words[0].start, (starts.at(-1) ?? -Infinity) + TICK_S));
  return pieces.map((words, index) => {
    const start = starts[index];
    const end = Math.min(Math.max(words.at(-1).end, start + MIN_CUE_S), starts[index + 1] ?? Infinity);
    return { start, end, text: twoLines(words.map((word) => word.text)) };
  });
}

function cut(words) {
  const pieces = [];
  for (const word of words) {
    const piece = pieces.at(-1);
    const longer = piece && [...piece, word];
    const fits = longer && twoLines(longer.map((each) => each.text)).split("\n").every((line) => line.length <= MAX_LINE);
    if (fits && word.end - piece[0].start <= MAX_CUE_S) piece.push(word);
    else pieces.push([word]);
  }
  return pieces;
}

function twoLines(texts) {
  const whole = texts.join(" ");
  if (whole.length <= MAX_LINE || texts.length < 2) return whole;
  const breaks = texts.slice(1).map((_, index) => [texts.slice(0, index + 1).join(" "), texts.slice(index + 1).join(" ")]);
  const longest = (lines) => Math.max(...lines.map((line) => line.length));
  return breaks.reduce((best, lines) => (longest(lines) < longest(best) ? lines : best)).join("\n");
}

function clock(seconds, point) {
  const ms = Math.round(seconds * 1000);
  const two = (number) => String(number).padStart(2, "0");
  const whole = `${two(Math.floor(ms / 3600000))}:${two(Math.floor(ms / 60000) % 60)}:${two(Math.floor(ms / 1000) % 60)}`;
  return `${whole}${point}${String(ms % 1000).padStart(3, "0")}`;
}

function escape(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
