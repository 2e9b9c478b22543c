// Shows captions as they grow: finals in a log that screen readers follow, the newest partial below them.

const MAX_SHOWN_FINALS = 500; // on the screen; the transcript keeps them all

export class CaptionView {
  constructor(scroller, finals, settled, open) {
    Object.assign(this, { scroller, finals, settled, open });
    this.transcript = [];
  }

  take(caption) {
    const wasAtEnd = this.scroller.scrollHeight - this.scroller.scrollTop - this.scroller.clientHeight < 80;
    if (caption.type === "final") this.#takeFinal(caption);
    else this.#showPartial(caption.text, caption.stable_chars);
    if (wasAtEnd) this.scroller.scrollTop = this.scroller.scrollHeight; // who has scrolled back is reading
  }

  #takeFinal(caption) {
    this.#showPartial("", 0);
    this.transcript.push(caption);
    this.finals.lastElementChild?.classList.add("old");
    const line = document.createElement("p");
    line.textContent = caption.text;
    this.finals.append(line);
    while (this.finals.childElementCount > MAX_SHOWN_FINALS) this.finals.firstElementChild.remove();
  }

  #showPartial(text, stableChars) {
    this.settled.textContent = text.slice(0, stableChars);
    this.open.textContent = text.slice(stableChars);
  }
}
