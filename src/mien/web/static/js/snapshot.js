// A single photo from the camera, in a dialog; phones without camera access through the page use their own camera app.

/** Resolves to a JPEG file, or null where nothing was taken. `fallback` opens the device's own camera. */
export async function openCamera(fallback) {
  if (!navigator.mediaDevices?.getUserMedia) {
    fallback();
    return null;
  }
  const dialog = document.getElementById("camera-dialog");
  const view = document.getElementById("camera-view");
  const problem = document.getElementById("camera-problem");
  const take = document.getElementById("camera-take");
  problem.hidden = true;
  take.disabled = true;
  dialog.showModal();
  let stream = null;
  let over = false; // of this dialog: another may be open by the time that the camera is
  const closed = new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  closed.then(() => {
    over = true;
  });
  navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1280 } } }).then(
    async (opened) => {
      if (over) return stop(opened);
      stream = opened;
      view.srcObject = opened;
      await view.play();
      take.disabled = false;
    },
    (error) => {
      if (over) return;
      problem.textContent = cameraWords(error);
      problem.hidden = false;
    },
  );
  take.onclick = () => dialog.close("take");
  document.getElementById("camera-cancel").onclick = () => dialog.close("");
  await closed;
  const photo = dialog.returnValue === "take" ? await grab(view) : null;
  dialog.returnValue = "";
  if (stream) stop(stream);
  view.srcObject = null;
  return photo;
}

/** Why there is no camera, and what to do. */
export function cameraWords(error) {
  if (!window.isSecureContext) return "Browsers give the camera only to pages that come over https, or from this machine. Ask whoever runs this service for its https address.";
  if (error.name === "NotAllowedError") return "The browser does not allow this page to use the camera. Allow it in the address bar and try again.";
  if (error.name === "NotFoundError") return "No camera was found. Connect one and try again.";
  if (error.name === "NotReadableError") return "Another program is using the camera. Close it and try again.";
  return `The camera cannot be opened (${error.name}).`;
}

function stop(stream) {
  for (const track of stream.getTracks()) track.stop();
}

async function grab(view) {
  const canvas = new OffscreenCanvas(view.videoWidth, view.videoHeight);
  canvas.getContext("2d").drawImage(view, 0, 0);
  const blob = await canvas.convertToBlob({ type: "image/jpeg", quality: 0.92 });
  return new File([blob], "camera.jpg", { type: blob.type });
}
