package console_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// screenshots is the folder that pictures of the pages are put into; "" for none.
var screenshots = flag.String("screenshots", "", "folder to put screenshots into")

// chromium is the browser of all tests; each test has a window of its own, without the cookies of others.
var chromium struct {
	ctx  context.Context
	stop func()
}

func TestMain(m *testing.M) {
	flag.Parse()
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.WindowSize(1280, 900))
	allocator, endAllocator := chromedp.NewExecAllocator(context.Background(), options...)
	// What a newer browser says that the library does not know yet is of no interest.
	ctx, end := chromedp.NewContext(allocator, chromedp.WithErrorf(func(string, ...any) {}))
	chromium.ctx, chromium.stop = ctx, func() { end(); endAllocator() }
	code := m.Run()
	chromium.stop()
	os.Exit(code)
}

var startChromium = sync.OnceValue(func() error { return chromedp.Do(chromium.ctx) })

// stepTimeout is how long a step of a test may take before the test fails.
const stepTimeout = 15 * time.Second

// window is a browser window on a site.
type window struct {
	t    testing.TB
	site *site
	ctx  context.Context

	mu     sync.Mutex
	faults []string // what the browser complained about
}

// newBrowser opens a window. The test fails if a page breaks the content security policy or a script fails.
func newBrowser(t testing.TB, s *site) *window {
	t.Helper()
	if err := startChromium(); err != nil {
		t.Fatal("start Chromium (make test-setup installs it):", err)
	}
	b := &window{t: t, site: s}
	ctx, cancel := chromedp.NewContext(chromium.ctx, chromedp.WithNewBrowserContext())
	b.ctx = ctx
	err := chromedp.Listen(ctx, func(event any) {
		switch e := event.(type) {
		case *runtime.EventExceptionThrown:
			b.fault(fmt.Sprintf("script: %+v", e.ExceptionDetails))
		case *cdplog.EventEntryAdded:
			if e.Entry.Level == cdplog.EntryLevelError && e.Entry.Source != cdplog.EntrySourceNetwork {
				b.fault(fmt.Sprintf("%s: %s (%s)", e.Entry.Source, e.Entry.Text, e.Entry.URL))
			}
		}
	})
	if err != nil {
		t.Fatal("open a window:", err)
	}
	t.Cleanup(func() {
		cancel()
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, f := range b.faults {
			t.Error("the browser complains:", f)
		}
	})
	return b
}

func (b *window) fault(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.faults = append(b.faults, text)
}

// run does steps; the test fails if one does not succeed in time.
func (b *window) run(what string, actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, stepTimeout)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		b.t.Fatalf("%s: %v\non the page: %s", what, err, b.page())
	}
}

// page is the text that the page shows, for failures.
func (b *window) page() string {
	ctx, cancel := context.WithTimeout(b.ctx, 5*time.Second)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string](`location.href + "\n" + document.body?.innerText`))
	if err != nil {
		return err.Error()
	}
	return text
}

// open goes to a path below /_console.
func (b *window) open(path string) {
	b.t.Helper()
	b.run("open "+path, chromedp.Navigate("http://"+b.site.address+"/_console"+path))
}

// login logs in as the administrator and waits for the databases.
func (b *window) login() { b.loginAs("admin", "correct horse") }

func (b *window) loginAs(name, secret string) {
	b.t.Helper()
	b.open("/login")
	b.fill("[name=name]", name)
	b.fill("[name=secret]", secret)
	b.click("[data-testid=login]")
	b.waitFor("[data-testid=logout]")
}

// click clicks what a selector finds, once it is visible. A page that comes in between puts another element of that kind in
// its place: then that is clicked.
func (b *window) click(selector string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, stepTimeout)
	defer cancel()
	found := chromedp.CSS(selector)
	for {
		err := chromedp.Do(ctx, chromedp.WaitReady(found), chromedp.ScrollIntoView(found), chromedp.Click(found))
		switch {
		case err == nil:
			return
		case ctx.Err() != nil || !strings.Contains(err.Error(), "Could not find node"):
			b.t.Fatalf("click %s: %v\non the page: %s", selector, err, b.page())
		}
	}
}

// fill replaces what is in a box by text, typed.
func (b *window) fill(selector, text string) {
	b.t.Helper()
	b.set(selector, "")
	b.run("type into "+selector, chromedp.SendKeys(chromedp.CSS(selector), text))
}

// set puts text into a box at once, for texts too long to be typed.
func (b *window) set(selector, text string) {
	b.t.Helper()
	b.waitVisible(selector)
	eval[bool](b, fmt.Sprintf(`(() => { const box = document.querySelector(%q); box.value = %s; box.dispatchEvent(new Event("input", {bubbles: true})); return true })()`, selector, quoteJS(text)))
}

// quoteJS writes a text as a JavaScript string.
func quoteJS(text string) string {
	b, _ := json.Marshal(text) // a string can always be written
	return string(b)
}

// press presses a key of package kb.
func (b *window) press(key string) {
	b.t.Helper()
	b.run("press a key", chromedp.KeyEvent(key))
}

var escapeKey = kb.Escape

// waitFor waits until a selector finds something in the page, be it visible or not.
func (b *window) waitFor(selector string) {
	b.t.Helper()
	b.run("wait for "+selector, chromedp.WaitReady(chromedp.CSS(selector)))
}

// waitVisible waits until what a selector finds can be seen.
func (b *window) waitVisible(selector string) {
	b.t.Helper()
	b.run("wait to see "+selector, chromedp.WaitVisible(chromedp.CSS(selector)))
}

// waitHidden waits until what a selector finds cannot be seen, or nothing is found.
func (b *window) waitHidden(selector string) {
	b.t.Helper()
	b.until(fmt.Sprintf(`!(document.querySelector(%q)?.checkVisibility())`, selector))
}

// waitText waits until what a selector finds holds the text.
func (b *window) waitText(selector, text string) {
	b.t.Helper()
	b.until(fmt.Sprintf(`document.querySelector(%q)?.textContent.includes(%q)`, selector, text))
}

// waitAt waits until the address of the page ends with path.
func (b *window) waitAt(path string) {
	b.t.Helper()
	b.until(fmt.Sprintf(`(location.pathname + location.search).endsWith(%q) && document.readyState == "complete"`, path))
}

// until waits until an expression is true in the page, or in the one that comes after it.
func (b *window) until(expression string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, stepTimeout)
	defer cancel()
	guarded := "(() => { try { return !!(" + expression + ") } catch { return false } })()"
	for {
		_, err := chromedp.Run(ctx, chromedp.Poll[bool](guarded, chromedp.WithPollingInterval(20*time.Millisecond), chromedp.WithPollingTimeout(stepTimeout)))
		switch {
		case err == nil:
			return
		case ctx.Err() != nil:
			b.t.Fatalf("wait until %s: %v\non the page: %s", expression, err, b.page())
		}
		// The page was left meanwhile.
	}
}

// value runs an action and returns what it gives.
func value[T any](b *window, what string, action chromedp.Action[T]) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, stepTimeout)
	defer cancel()
	v, err := chromedp.Run(ctx, action)
	if err != nil {
		b.t.Fatalf("%s: %v\non the page: %s", what, err, b.page())
	}
	return v
}

// eval evaluates an expression in the page, which may be a promise.
func eval[T any](b *window, expression string) T {
	b.t.Helper()
	return value(b, "evaluate "+expression, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
}

// text returns the text of what a selector finds.
func (b *window) text(selector string) string {
	b.t.Helper()
	b.waitFor(selector)
	return strings.TrimSpace(eval[string](b, fmt.Sprintf("document.querySelector(%q).textContent", selector)))
}

// look of a screenshot.
type look struct {
	name  string
	width int64
	dark  bool
}

var looks = []look{{"light", 1280, false}, {"dark", 1280, true}, {"phone", 360, false}}

// shoot takes pictures of the page as it is, if they are asked for, and checks that nothing sticks out at phone width.
func (b *window) shoot(name string) {
	b.t.Helper()
	for _, l := range looks {
		if *screenshots == "" && l.width > 600 {
			continue // there is nothing to check
		}
		scheme := "light"
		if l.dark {
			scheme = "dark"
		}
		b.run("look "+l.name, viewport(l.width, scheme))
		over := eval[int](b, `Math.max(0, document.documentElement.scrollWidth - innerWidth)`)
		if over > 0 {
			b.t.Errorf("%s, %s: the page is %d pixels wider than the window", name, l.name, over)
		}
		if *screenshots == "" {
			continue
		}
		picture := value(b, "take a picture", chromedp.FullScreenshot(100))
		if err := os.WriteFile(filepath.Join(*screenshots, name+"-"+l.name+".png"), picture, 0o644); err != nil {
			b.t.Fatal(err)
		}
	}
	b.run("look as usual", viewport(1280, "light"))
}

// shootNow takes a picture of the page as it is now, if pictures are asked for.
func (b *window) shootNow(name string) {
	b.t.Helper()
	if *screenshots == "" {
		return
	}
	picture := value(b, "take a picture", chromedp.CaptureScreenshot())
	if err := os.WriteFile(filepath.Join(*screenshots, name+".png"), picture, 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// viewport makes the window as wide as asked for, in a colour scheme.
func viewport(width int64, scheme string) chromedp.Action[chromedp.Void] {
	media := emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}}
	return chromedp.Steps(chromedp.EmulateViewport(width, 900), chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, media)
		return err
	}))
}
