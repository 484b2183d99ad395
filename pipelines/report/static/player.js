// Plays the videos in view together: a round starts when the longest of the last one has ended.
"use strict";
(() => {
  const videos = [...document.querySelectorAll(".tile video")];
  const button = document.getElementById("play");
  if (!button) return;
  const inView = new Set();
  let isPlaying = !matchMedia("(prefers-reduced-motion: reduce)").matches;
  let speed = 1;
  let isRestarting = false;

  for (const video of videos) {
    video.loop = false;
    video.muted = true;
    video.addEventListener("error", () => showFallback(video));
    video.addEventListener("ended", startRoundWhenAllEnded);
  }

  const observer = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting) join(target);
      else leave(target);
    }
    startRoundWhenAllEnded();
  }, { rootMargin: "80px" });
  for (const video of videos) {
    if (video.error) showFallback(video);
    else observer.observe(video);
  }

  function join(video) {
    const other = [...inView].find((each) => !each.ended && each.readyState > 1);
    inView.add(video);
    video.playbackRate = speed;
    if (other) video.currentTime = other.currentTime;
    if (isPlaying) start(video);
    else video.pause();
  }

  function leave(video) {
    inView.delete(video);
    video.pause();
  }

  function start(video) {
    video.play().catch(() => {}); // a browser may refuse until the page is touched
  }

  function startRoundWhenAllEnded() {
    if (!isPlaying || isRestarting || inView.size === 0) return;
    const loaded = [...inView].filter((video) => video.readyState > 1 && !video.error);
    if (loaded.length === 0 || loaded.some((video) => !video.ended)) return;
    isRestarting = true;
    setTimeout(() => {
      isRestarting = false;
      for (const video of inView) {
        video.currentTime = 0;
        if (isPlaying) start(video);
      }
    }, 250);
  }

  function showFallback(video) {
    const path = video.dataset.fallback;
    if (!path || !video.isConnected) return;
    const image = new Image();
    image.src = path;
    image.alt = video.getAttribute("aria-label");
    observer.unobserve(video);
    inView.delete(video);
    video.replaceWith(image);
  }

  function label() {
    button.textContent = isPlaying ? "Pause" : "Play";
  }

  button.addEventListener("click", () => {
    isPlaying = !isPlaying;
    label();
    for (const video of inView) isPlaying ? start(video) : video.pause();
    startRoundWhenAllEnded();
  });
  onChoice("speed", (value) => {
    speed = Number(value);
    for (const video of videos) video.playbackRate = speed;
  });
  onChoice("size", (value) => setVariable("--tile", `${value}px`));
  onChoice("pixels", (value) => setVariable("--pixels", value));
  label();

  function setVariable(name, value) {
    document.documentElement.style.setProperty(name, value);
  }

  function onChoice(name, use) {
    for (const input of document.querySelectorAll(`input[name="${name}"]`)) {
      if (input.checked) use(input.value); // a reloaded page may remember another choice
      input.addEventListener("change", () => use(input.value));
    }
  }
})();
