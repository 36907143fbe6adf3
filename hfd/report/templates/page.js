"use strict";
(() => {
  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
  const all = (root, selector) => [...root.querySelectorAll(selector)];
  const ZOOM_MOST = 8;

  /* The labels on both sides and the layout, kept from one example to the next. */
  const chosen = { left: null, right: null, beside: false };

  /* One example: two of its versions, one over the other, cut at the divider. */
  function compare(example) {
    const stage = example.querySelector(".layers");
    const divider = example.querySelector(".divider");
    const layers = all(example, ".layer");
    const [tagLeft, tagRight] = all(example, ".tags span");
    const readout = example.querySelector(".bar output");
    const width = Number(example.style.getPropertyValue("--w"));
    const sides = example.querySelector(".sides");
    const view = { split: 50, zoom: 1, x: 0, y: 0, left: 0, right: 1 };

    /* The box of one picture: side by side, each has half of the stage. */
    function pane() {
      const box = stage.getBoundingClientRect();
      return { left: box.left, top: box.top, width: chosen.beside ? box.width / 2 : box.width, height: box.height };
    }

    function draw() {
      stage.classList.toggle("beside", chosen.beside);
      example.classList.toggle("wide", chosen.beside);
      sides.setAttribute("aria-pressed", chosen.beside);
      divider.tabIndex = chosen.beside ? -1 : 0;
      const box = pane();
      view.x = clamp(view.x, box.width * (1 - view.zoom), 0);
      view.y = clamp(view.y, box.height * (1 - view.zoom), 0);
      stage.style.setProperty("--split", view.split + "%");
      stage.style.setProperty("--zoom", view.zoom);
      stage.style.setProperty("--tx", view.x + "px");
      stage.style.setProperty("--ty", view.y + "px");
      stage.classList.toggle("zoomed", view.zoom > 1);
      const scale = (box.width * view.zoom) / width;
      stage.classList.toggle("sharp", view.zoom > 1 && scale >= 1);
      readout.textContent = box.width ? "shown at " + Math.round(scale * 100) + " % of full size" : "";
      divider.setAttribute("aria-valuenow", Math.round(view.split));
      for (const button of all(example, "[data-zoom]"))
        button.setAttribute("aria-pressed", Number(button.dataset.zoom) === view.zoom);
    }

    function choose(side, index) {
      const other = side === "left" ? "right" : "left";
      if (view[other] === index) view[other] = view[side]; /* the same picture twice shows nothing: swap */
      view[side] = index;
      layers.forEach((layer, i) => {
        layer.classList.toggle("on-left", i === view.left);
        layer.classList.toggle("on-right", i === view.right);
      });
      tagLeft.textContent = layers[view.left].dataset.label;
      tagRight.textContent = layers[view.right].dataset.label;
      for (const button of all(example, "[data-side]"))
        button.setAttribute("aria-pressed", Number(button.dataset.index) === view[button.dataset.side]);
    }

    function apply() {
      const index = (label) => layers.findIndex((layer) => layer.dataset.label === label);
      const [left, right] = [index(chosen.left), index(chosen.right)];
      if (left >= 0) choose("left", left);
      if (right >= 0) choose("right", right);
      draw();
    }

    /* Zoom so that the picture's point under (x, y), in pixels of the stage, stays where it is. */
    function zoomTo(zoom, x, y) {
      const next = clamp(zoom, 1, ZOOM_MOST);
      view.x = x - ((x - view.x) * next) / view.zoom;
      view.y = y - ((y - view.y) * next) / view.zoom;
      view.zoom = next;
      draw();
    }

    let drag = null;
    stage.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || drag) return;
      const pan = chosen.beside || (view.zoom > 1 && event.target !== divider);
      drag = { id: event.pointerId, pan, x: event.clientX - view.x, y: event.clientY - view.y };
      stage.setPointerCapture(event.pointerId);
      stage.classList.toggle("panning", pan);
      if (!pan) moveDivider(event);
    });
    function moveDivider(event) {
      const box = stage.getBoundingClientRect();
      view.split = clamp((100 * (event.clientX - box.left)) / box.width, 0, 100);
      draw();
    }
    stage.addEventListener("pointermove", (event) => {
      if (!drag || drag.id !== event.pointerId) return;
      if (!drag.pan) return moveDivider(event);
      view.x = event.clientX - drag.x;
      view.y = event.clientY - drag.y;
      draw();
    });
    const release = (event) => {
      if (!drag || drag.id !== event.pointerId) return;
      drag = null;
      stage.classList.remove("panning");
    };
    for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) stage.addEventListener(name, release);
    stage.addEventListener("dragstart", (event) => event.preventDefault());

    /* A bare wheel keeps scrolling the page; Ctrl, Cmd or a pinch on a trackpad zooms the picture. */
    stage.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      const box = pane();
      const step = clamp(event.deltaY * (event.deltaMode === 1 ? 16 : 1), -60, 60);
      zoomTo(view.zoom * Math.exp(-step * 0.01), (event.clientX - box.left) % box.width, event.clientY - box.top);
    }, { passive: false });

    divider.addEventListener("keydown", (event) => {
      const step = event.shiftKey ? 10 : 2;
      const moves = { ArrowLeft: view.split - step, ArrowDown: view.split - step, ArrowRight: view.split + step,
        ArrowUp: view.split + step, Home: 0, End: 100 };
      if (!(event.key in moves)) return;
      event.preventDefault();
      view.split = clamp(moves[event.key], 0, 100);
      draw();
    });
    stage.addEventListener("keydown", (event) => {
      const moves = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
      if (event.target !== stage || view.zoom === 1 || !(event.key in moves)) return;
      event.preventDefault();
      const [x, y] = moves[event.key], step = pane().width / 10;
      view.x += x * step;
      view.y += y * step;
      draw();
    });
    sides.addEventListener("click", () => {
      const before = pane().width;
      chosen.beside = !chosen.beside;
      draw();
      const scale = pane().width / before;
      view.x *= scale;
      view.y *= scale;
      draw();
    });
    for (const button of all(example, "[data-zoom]"))
      button.addEventListener("click", () => {
        const box = pane();
        zoomTo(Number(button.dataset.zoom), box.width / 2, box.height / 2);
      });
    for (const button of all(example, "[data-side]"))
      button.addEventListener("click", () => {
        choose(button.dataset.side, Number(button.dataset.index));
        for (const side of ["left", "right"]) chosen[side] = layers[view[side]].dataset.label;
      });

    example.classList.add("live");
    example.addEventListener("chosen", apply);
    choose("right", Number(stage.dataset.right));
    draw();
    new ResizeObserver(draw).observe(stage);
  }

  /* The strip of thumbnails: one example at a time, of the same section. */
  function strip(root) {
    const examples = all(root.closest("section"), ".example");
    const buttons = all(root, "button");
    const show = (index) => {
      examples.forEach((example, i) => { example.hidden = i !== index; });
      examples[index].dispatchEvent(new Event("chosen"));
      buttons.forEach((button, i) => button.setAttribute("aria-pressed", i === index));
    };
    buttons.forEach((button, i) => button.addEventListener("click", () => show(i)));
    show(0);
  }

  /* Tables sort by the clicked heading: numbers by value, text by name, cells without a value last. */
  function sortable(table) {
    const body = table.tBodies[0];
    const heads = all(table, "th");
    const words = new Intl.Collator(undefined, { numeric: true });
    heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const numeric = !head.classList.contains("text");
      const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
      const order = (a, b) => {
        const [u, v] = [key(a), key(b)];
        if (numeric && (u === "" || v === "")) return (u === "") - (v === "");
        const sign = numeric ? (Number(u) > Number(v)) - (Number(u) < Number(v)) : words.compare(u, v);
        return down ? -sign : sign;
      };
      body.append(...[...body.rows].sort(order));
    }));
  }

  function filter(input) {
    const rows = all(input.closest("section"), "tbody tr");
    input.addEventListener("input", () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
      }
    });
  }

  /* The worst and best pictures of the chosen system and metric; a button shows its picture in the gallery. */
  function extremes(root) {
    const gallery = document.getElementById(root.dataset.gallery);
    const thumbnails = gallery ? all(gallery, ".strip button") : [];
    const lists = all(root, ".lists");
    const pickers = all(root, "select");
    function show() {
      const wanted = pickers.map((picker) => picker.value).join(" ");
      lists.forEach((list) => { list.hidden = list.dataset.of !== wanted; });
    }
    for (const button of all(root, "[data-picture]")) {
      const thumbnail = thumbnails[Number(button.dataset.picture)];
      if (thumbnail) button.prepend(thumbnail.querySelector("img").cloneNode());
      button.addEventListener("click", () => {
        const example = all(gallery, ".example")[Number(button.dataset.picture)];
        chosen.left = example.querySelector(".layer").dataset.label;
        chosen.right = button.dataset.label;
        if (thumbnail) thumbnail.click();
        else example.dispatchEvent(new Event("chosen"));
        example.scrollIntoView({ block: "nearest" });
        example.querySelector(".layers").focus({ preventScroll: true });
      });
    }
    pickers.forEach((picker) => picker.addEventListener("change", show));
    show();
  }

  document.documentElement.classList.add("live-page");
  all(document, ".example").forEach(compare);
  all(document, ".strip").forEach(strip);
  all(document, ".extremes").forEach(extremes);
  all(document, "table").forEach(sortable);
  all(document, ".filter input").forEach(filter);
})();
