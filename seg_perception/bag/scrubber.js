{
  const data = JSON.parse(document.getElementById("frames").textContent);
  const player = document.getElementById("player"), video = player.querySelector("video");
  const slider = document.getElementById("frame"), facts = document.getElementById("facts");
  const cells = new Map([...player.querySelectorAll("[data-cell]")].map((cell) => [cell.dataset.cell, cell]));
  const last = data.seconds.length - 1;
  let shown = -1, filled = [];

  const fill = (key, fraction, pixels) => {
    const cell = cells.get(key), text = cell.querySelector("text"), title = cell.querySelector("title");
    cell.querySelector("rect:not(.cell)").setAttribute("fill-opacity", Math.pow(fraction, 0.7).toFixed(3));
    text.textContent = fraction >= 0.005 ? Math.round(100 * fraction) : "";
    text.classList.toggle("strong", fraction > 0.45);
    title.textContent = title.textContent.replace(/: .*/s, `: ${(100 * fraction).toFixed(1)} % (${pixels} pixels)`);
  };

  const show = (frame) => {
    if (frame === shown) return;
    shown = frame;
    slider.value = frame;
    const parts = [`frame ${frame + 1} of ${last + 1}`, `${data.seconds[frame].toFixed(2)} s`];
    if (data.miou[frame] !== null) parts.push(`mIoU ${data.miou[frame].toFixed(3)}`);
    parts.push(`${data.latency_ms[frame].toFixed(1)} ms`);
    if (data.span > 1 && data.rows) parts.push(`confusion of ${data.span} frames from here`);
    facts.textContent = parts.join(" · ");
    if (!data.rows) return;
    const step = data.confusion[Math.floor(frame / data.span)];
    const totals = new Array(data.rows).fill(0);
    for (const [row, , pixels] of step) totals[row] += pixels;
    for (const key of filled) fill(key, 0, 0);
    filled = step.map(([row, column, pixels]) => {
      const key = `${row},${column}`;
      fill(key, pixels / totals[row], pixels);
      return key;
    });
  };

  const current = () => Math.min(last, Math.max(0, Math.floor(video.currentTime * data.rate + 0.01)));
  const go = (frame) => {
    frame = Math.min(last, Math.max(0, frame));
    video.pause();
    video.currentTime = (frame + 0.5) / data.rate; // the middle of the frame: rounding can't reach the one before
    show(frame);
  };
  const follow = () => {
    if (!video.paused) {
      show(current());
      requestAnimationFrame(follow);
    }
  };
  slider.oninput = () => go(Number(slider.value));
  document.getElementById("back").onclick = () => go(shown - 1);
  document.getElementById("on").onclick = () => go(shown + 1);
  video.onplay = follow;
  video.onseeked = () => show(current());
  video.onpause = () => show(current());
  player.onkeydown = (event) => {
    if (event.target === slider || event.target === video) return; // they have arrow keys of their own
    if (event.key === "ArrowLeft") go(shown - 1);
    if (event.key === "ArrowRight") go(shown + 1);
  };
  show(0);
}
