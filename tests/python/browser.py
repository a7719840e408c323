"""Opens a page in headless Chromium, over its debugging pipe, and says in JSON what came of it: what the
console said, what was asked of the network, how it fits a telephone and paper, what its plots show."""

import base64
import json
import os
import subprocess
import sys
import tempfile

chromium, page, pictures = sys.argv[1:4]

LOOK = """(() => {
  const root = document.documentElement;
  const box = (e) => { const r = e.getBoundingClientRect(); return [r.left, r.top, r.right, r.bottom]; };
  const texts = [...document.querySelectorAll('svg text')].map((t) => ({ text: t.textContent, box: box(t) }));
  return {
    title: document.title,
    heading: document.querySelector('h1').textContent,
    width: root.scrollWidth, room: root.clientWidth,
    font: parseFloat(getComputedStyle(document.body).fontSize),
    background: getComputedStyle(document.body).backgroundColor,
    ink: getComputedStyle(document.body).color,
    wide: [...document.querySelectorAll('main > *, article')].map(box),
    texts,
    scripts: document.scripts.length,
    images: document.images.length,
    links: [...document.querySelectorAll('a, iframe, object, embed, form, [onclick], [onerror], [onload]')].length,
    text: document.body.innerText,
    touched: String(window.touched),
    plots: [...document.querySelectorAll('svg')].map((svg) => ({
      area: svg.dataset.area,
      faults: [...svg.querySelectorAll('.fault')].map((r) => [+r.getAttribute('x'), +r.getAttribute('width')]),
      lines: [...svg.querySelectorAll('path')].map((p) => ({ ...p.dataset, d: p.getAttribute('d'), stroke: getComputedStyle(p).stroke })),
    })),
  };
})()"""


class Browser:
    def __init__(self, home):
        to_read, self.to = os.pipe()
        self.back, to_write = os.pipe()

        def descriptors():
            # It reads commands from 3 and answers on 4.
            read, write = os.dup(to_read), os.dup(to_write)
            os.dup2(read, 3)
            os.dup2(write, 4)

        self.process = subprocess.Popen(
            [
                chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                "--no-first-run", "--disable-background-networking", "--no-proxy-server",
                "--remote-debugging-pipe", f"--user-data-dir={home}",
            ],
            preexec_fn=descriptors, close_fds=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": home},
        )
        os.close(to_read)
        os.close(to_write)
        self.buffer, self.count, self.events = b"", 0, []

    def read(self):
        while b"\0" not in self.buffer:
            piece = os.read(self.back, 65536)
            if not piece:
                raise SystemExit("Chromium has ended")
            self.buffer += piece
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)

    def ask(self, method, session=None, **params):
        self.count += 1
        message = {"id": self.count, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.read()
            if answer.get("id") == self.count:
                if "error" in answer:
                    raise SystemExit(f"{method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)

    def wait(self, method):
        while not any(event["method"] == method for event in self.events):
            self.events.append(self.read())


def main():
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        browser = Browser(home)
        try:
            target = browser.ask("Target.createTarget", url="about:blank")["targetId"]
            session = browser.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

            def ask(method, **params):
                return browser.ask(method, session, **params)

            def look():
                answer = ask("Runtime.evaluate", expression=LOOK, returnByValue=True)
                return answer["result"].get("value", answer)

            for domain in ["Page", "Runtime", "Log", "Network"]:
                ask(f"{domain}.enable")
            ask("Emulation.setDeviceMetricsOverride", width=1280, height=900, deviceScaleFactor=1, mobile=False)
            browser.events.clear()
            ask("Page.navigate", url=f"file://{page}")
            browser.wait("Page.loadEventFired")
            desk = look()
            ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
            dark = look()
            ask("Emulation.setEmulatedMedia", features=[])
            ask("Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=2, mobile=True)
            phone = look()
            shot = ask("Page.captureScreenshot", captureBeyondViewport=True)
            with open(os.path.join(pictures, "phone.png"), "wb") as file:
                file.write(base64.b64decode(shot["data"]))
            ask("Emulation.setDeviceMetricsOverride", width=794, height=1123, deviceScaleFactor=1, mobile=False)
            ask("Emulation.setEmulatedMedia", media="print")
            paper = look()
            pdf = base64.b64decode(ask("Page.printToPDF", printBackground=False)["data"])
            with open(os.path.join(pictures, "print.pdf"), "wb") as file:
                file.write(pdf)
            said = [
                event["params"] for event in browser.events
                if event["method"] in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
            ]
            asked = [
                event["params"]["request"]["url"] for event in browser.events
                if event["method"] == "Network.requestWillBeSent"
            ]
            print(json.dumps({
                "console": said, "asked": asked, "desk": desk, "dark": dark, "phone": phone,
                "paper": paper, "pages": pdf.count(b"/Type /Page\n") + pdf.count(b"/Type /Page "),
            }))
        finally:
            browser.process.kill()
            browser.process.wait()


main()
