package console_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

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
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.WindowSize(1280, 900))
	allocator, endAllocator := chromedp.NewExecAllocator(context.Background(), options...)
	// What a newer browser says that the library does not know yet is of no interest.
	ctx, end := chromedp.NewContext(allocator, chromedp.WithErrorf(func(string, ...any) {}))
	chromium.ctx, chromium.stop = ctx, func() { end(); endAllocator() }
	code := m.Run()
	chromium.stop()
	os.Exit(code)
}

var startChromium = sync.OnceValue(func() error { return chromedp.Run(chromium.ctx) })

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
	ctx, cancel := chromedp.NewContext(chromium.ctx, chromedp.WithNewBrowserContext())
	b := &window{t: t, site: s, ctx: ctx}
	chromedp.ListenTarget(ctx, func(event any) {
		switch e := event.(type) {
		case *runtime.EventExceptionThrown:
			b.fault("script: " + e.ExceptionDetails.Error())
		case *cdplog.EventEntryAdded:
			if e.Entry.Level == cdplog.LevelError && e.Entry.Source != cdplog.SourceNetwork {
				b.fault(fmt.Sprintf("%s: %s (%s)", e.Entry.Source, e.Entry.Text, e.Entry.URL))
			}
		}
	})
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
func (b *window) run(what string, actions ...chromedp.Action) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, stepTimeout)
	defer cancel()
	if err := chromedp.Run(ctx, actions...); err != nil {
		b.t.Fatalf("%s: %v\non the page: %s", what, err, b.page())
	}
}

// page is the text that the page shows, for failures.
func (b *window) page() string {
	ctx, cancel := context.WithTimeout(b.ctx, 5*time.Second)
	defer cancel()
	var text, at string
	_ = chromedp.Run(ctx, chromedp.Location(&at), chromedp.Evaluate(`document.body.innerText`, &text))
	return at + "\n" + text
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

// click clicks what a selector finds, once it is visible. Buttons that open menus need no visibility of what is in them.
func (b *window) click(selector string) {
	b.t.Helper()
	b.run("click "+selector, chromedp.WaitReady(selector, chromedp.ByQuery), chromedp.ScrollIntoView(selector, chromedp.ByQuery), chromedp.Click(selector, chromedp.ByQuery))
}

// fill replaces what is in a box by text, typed.
func (b *window) fill(selector, text string) {
	b.t.Helper()
	b.run("fill "+selector, chromedp.WaitVisible(selector, chromedp.ByQuery), chromedp.SetValue(selector, "", chromedp.ByQuery), chromedp.SendKeys(selector, text, chromedp.ByQuery))
}

// set puts text into a box at once, for texts too long to be typed.
func (b *window) set(selector, text string) {
	b.t.Helper()
	b.run("set "+selector, chromedp.WaitVisible(selector, chromedp.ByQuery), chromedp.SetValue(selector, text, chromedp.ByQuery))
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
	b.run("wait for "+selector, chromedp.WaitReady(selector, chromedp.ByQuery))
}

// waitVisible waits until what a selector finds can be seen.
func (b *window) waitVisible(selector string) {
	b.t.Helper()
	b.run("wait to see "+selector, chromedp.WaitVisible(selector, chromedp.ByQuery))
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

// until waits until an expression is true in the page.
func (b *window) until(expression string) {
	b.t.Helper()
	b.run("wait until "+expression, chromedp.Poll("(() => { try { return !!("+expression+") } catch { return false } })()", nil, chromedp.WithPollingInterval(20*time.Millisecond), chromedp.WithPollingTimeout(stepTimeout)))
}

// text returns the text of what a selector finds.
func (b *window) text(selector string) string {
	b.t.Helper()
	var s string
	b.run("read "+selector, chromedp.WaitReady(selector, chromedp.ByQuery), chromedp.Evaluate(fmt.Sprintf("document.querySelector(%q).textContent", selector), &s))
	return strings.TrimSpace(s)
}

// eval evaluates an expression in the page, which may be a promise, into out.
func (b *window) eval(expression string, out any) {
	b.t.Helper()
	b.run("evaluate "+expression, chromedp.Evaluate(expression, out, func(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) }))
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
		scheme := "light"
		if l.dark {
			scheme = "dark"
		}
		var over int
		b.run("look "+l.name,
			emulation.SetDeviceMetricsOverride(l.width, 900, 1, l.width < 600),
			emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}),
			chromedp.Evaluate(`Math.max(0, document.documentElement.scrollWidth - innerWidth)`, &over))
		if over > 0 {
			b.t.Errorf("%s, %s: the page is %d pixels wider than the window", name, l.name, over)
		}
		if *screenshots == "" {
			continue
		}
		var picture []byte
		b.run("take a picture", chromedp.FullScreenshot(&picture, 100))
		if err := os.WriteFile(filepath.Join(*screenshots, name+"-"+l.name+".png"), picture, 0o644); err != nil {
			b.t.Fatal(err)
		}
	}
	b.run("look as usual", emulation.SetDeviceMetricsOverride(1280, 900, 1, false), emulation.SetEmulatedMedia())
}
