// A picture as a query: dropped, pasted or chosen.

import { $ } from "./dom.js";

const isPicture = (file) => file.type.startsWith("image/");
let address = null; // of the picture on show

/** Call `use(file)` for every picture that someone brings, `refuse(text)` for what is none. */
export function takePictures(use, refuse) {
  let depth = 0; // enter and leave come for every element on the way
  const over = (yes) => {
    $("drop").hidden = !yes;
  };
  const files = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragenter", (event) => {
    if (!files(event)) return;
    depth += 1;
    over(true);
  });
  addEventListener("dragleave", (event) => {
    if (!files(event)) return;
    depth = Math.max(0, depth - 1);
    over(depth > 0);
  });
  addEventListener("dragover", (event) => files(event) && event.preventDefault());
  const take = (given) => {
    const file = [...given].find(isPicture);
    if (file) use(file);
    else if (given.length) refuse(`${given[0].name} is no picture: give a JPEG, PNG or WebP file.`);
  };
  addEventListener("drop", (event) => {
    if (!files(event)) return;
    event.preventDefault();
    depth = 0;
    over(false);
    take(event.dataTransfer.files);
  });
  addEventListener("paste", (event) => {
    if (event.clipboardData?.files.length) take(event.clipboardData.files);
  });
  $("choose").onclick = () => $("file").click();
  $("file").onchange = () => {
    take($("file").files);
    $("file").value = "";
  };
}

/** Show the picture that the words came from, or none. */
export function showDropped(file) {
  if (address) URL.revokeObjectURL(address);
  address = file ? URL.createObjectURL(file) : null;
  $("dropped").hidden = !file;
  if (file) $("dropped").src = address;
  else $("dropped").removeAttribute("src");
}
