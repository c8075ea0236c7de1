// What the page was given: one JSON document, and blocks of base64 that are decoded when needed.
"use strict";

const pageData = (() => {
  const page = JSON.parse(document.getElementById("page-data").textContent);

  function bytes(block) {
    const text = atob(document.getElementById(block).textContent);
    return Uint8Array.from(text, (character) => character.charCodeAt(0));
  }

  async function inflated(block) {
    const stream = new Blob([bytes(block)]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Response(stream).arrayBuffer();
  }

  return { page, bytes, inflated };
})();
