// Browsers start no Worker from disk: the search's then runs in a hidden frame, which talks by events.
if (location.protocol === "file:") window.Worker = class extends EventTarget {
  constructor(url) {
    super();
    const frame = document.createElement("iframe"), waiting = [];
    frame.hidden = true;
    document.body.append(frame);
    const inside = frame.contentWindow, script = inside.document.createElement("script");
    inside.postMessage = data => this.dispatchEvent(new MessageEvent("message", { data }));
    this.postMessage = data => waiting.push(data);
    script.addEventListener("load", () => {
      this.postMessage = data => inside.dispatchEvent(new inside.MessageEvent("message", { data }));
      waiting.forEach(data => this.postMessage(data));
    });
    script.src = url;
    inside.document.head.append(script);
  }
};
