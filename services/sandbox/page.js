"use strict";
// Asks once a second for rows newer than the newest shown. The server has escaped everything in them.
const rows = document.getElementById("rows");
const counts = document.querySelector("#counts tbody");
const state = document.getElementById("state");
const pause = document.getElementById("pause");
const filter = document.getElementById("filter");
const KEPT = 200;
let paused = false;

function fits(row) {
  row.hidden = !row.textContent.toLowerCase().includes(filter.value.trim().toLowerCase());
}

async function look() {
  if (paused || document.hidden) return;
  const newest = rows.firstElementChild ? rows.firstElementChild.dataset.number : 0;
  try {
    const answer = await fetch(`/page/news?after=${newest}`, { cache: "no-store" });
    if (!answer.ok) throw new Error(answer.status);
    const news = await answer.json();
    if (news.newest < newest) rows.replaceChildren();
    counts.innerHTML = news.counts;
    rows.insertAdjacentHTML("afterbegin", news.rows);
    while (rows.children.length > KEPT) rows.lastElementChild.remove();
    for (const row of rows.children) fits(row);
    state.textContent = "Live.";
  } catch {
    state.textContent = "The sandbox does not answer; trying again.";
  }
}

pause.hidden = false;
pause.addEventListener("click", () => {
  paused = !paused;
  pause.textContent = paused ? "Go on" : "Pause";
  state.textContent = paused ? "Paused." : "Live.";
});
filter.addEventListener("input", () => { for (const row of rows.children) fits(row); });
setInterval(look, 1000);
look();
