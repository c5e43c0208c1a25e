package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// target is the server and database under load.
type target struct {
	hosts []string      // host:port of the nodes
	turn  atomic.Uint64 // of the next connection
	path  string        // "/db"
	auth  string        // Authorization header value, "" for none
}

// host is the node whose turn it is.
func (t *target) host() string { return t.hosts[int(t.turn.Add(1)-1)%len(t.hosts)] }

// setUp makes the database and, on a gateway, a user who sees all channels.
func setUp(ctx context.Context, o Options) (*target, error) {
	t := &target{path: "/" + url.PathEscape(o.DB)}
	for _, node := range append([]string{o.URL}, o.Also...) {
		u, err := url.Parse(node)
		if err != nil {
			return nil, err
		}
		t.hosts = append(t.hosts, u.Host)
	}
	if o.Couch {
		if o.User != "" {
			t.auth = basic(o.User, o.Password)
		}
		return t, t.request(ctx, http.MethodPut, o.URL+t.path, nil)
	}
	config, err := json.Marshal(map[string]any{"sync": syncFunction})
	if err != nil {
		return nil, err
	}
	admin := &target{}
	if err := admin.request(ctx, http.MethodPut, o.Admin+t.path+"/", config); err != nil {
		return nil, err
	}
	password := randomHex()
	names := []string{"ch-all", idleAll, idleFew}
	for i := range channels {
		names = append(names, "ch-"+strconv.Itoa(i))
	}
	user, err := json.Marshal(map[string]any{"name": userName, "password": password, "admin_channels": names})
	if err != nil {
		return nil, err
	}
	t.auth = basic(userName, password)
	if err := admin.request(ctx, http.MethodPost, o.Admin+t.path+"/_user/", user); err != nil {
		return nil, err
	}
	return t, t.everywhere(ctx)
}

// knownWithin is how long nodes may take to serve a database that was made on another one.
const knownWithin = 10 * time.Second

// everywhere waits until all nodes serve the database.
func (t *target) everywhere(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, knownWithin)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for _, host := range t.hosts {
		for {
			err := t.request(ctx, http.MethodGet, "http://"+host+t.path+"/", nil)
			if err == nil {
				break
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return err
			}
		}
	}
	return nil
}

func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// request makes one request that need not be fast. Any status of 400 and above is an error.
func (t *target) request(ctx context.Context, method, url string, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	if t.auth != "" {
		req.Header.Set("Authorization", t.auth)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, 4096))
	if err != nil {
		return err
	}
	if res.StatusCode >= 400 {
		return fmt.Errorf("%s %s: %s: %s", method, url, res.Status, bytes.TrimSpace(text))
	}
	return nil
}

func (t *target) serverVersion(ctx context.Context) (string, error) {
	c, err := t.dial(ctx)
	if err != nil {
		return "", err
	}
	defer c.Close()
	body, _, err := c.do(http.MethodGet, "/", nil)
	if err != nil {
		return "", err
	}
	var v struct {
		Version string `json:"version"`
	}
	return v.Version, json.Unmarshal(body, &v)
}

// conn is a keep-alive HTTP/1.1 connection that costs the load generator little: on a machine it shares
// with the server, its own CPU would otherwise be what is measured.
type conn struct {
	net.Conn
	t    *target
	host string
	r    *bufio.Reader
	out  []byte
	in   []byte
}

func (t *target) dial(ctx context.Context) (*conn, error) {
	var d net.Dialer
	host := t.host()
	c, err := d.DialContext(ctx, "tcp", host)
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c, t: t, r: bufio.NewReaderSize(c, 4<<10)}, nil
}

func (c *conn) send(method, path string, body []byte) error {
	b := c.out[:0]
	b = append(b, method...)
	b = append(b, ' ')
	b = append(b, path...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, c.host...)
	if c.t.auth != "" {
		b = append(b, "\r\nAuthorization: "...)
		b = append(b, c.t.auth...)
	}
	b = append(b, "\r\nAccept: application/json"...)
	if body != nil {
		b = append(b, "\r\nContent-Type: application/json\r\nContent-Length: "...)
		b = strconv.AppendInt(b, int64(len(body)), 10)
	}
	b = append(b, "\r\n\r\n"...)
	b = append(b, body...)
	c.out = b
	_, err := c.Write(b)
	return err
}

// do makes a request and reads the whole answer. The body is valid until the next call.
func (c *conn) do(method, path string, body []byte) ([]byte, int, error) {
	if err := c.send(method, path, body); err != nil {
		return nil, 0, err
	}
	status, length, chunked, err := c.head()
	if err != nil {
		return nil, 0, err
	}
	c.in = c.in[:0]
	if !chunked {
		if cap(c.in) < length {
			c.in = make([]byte, 0, length)
		}
		c.in = c.in[:length]
		_, err := io.ReadFull(c.r, c.in)
		return c.in, status, err
	}
	for {
		n, err := c.chunkLen()
		if err != nil {
			return nil, status, err
		}
		at := len(c.in)
		c.in = append(c.in, make([]byte, n+2)...)
		if _, err := io.ReadFull(c.r, c.in[at:]); err != nil {
			return nil, status, err
		}
		c.in = c.in[:at+n]
		if n == 0 {
			return c.in, status, nil
		}
	}
}

// head reads a response's status line and headers. Without a length the body is empty.
func (c *conn) head() (status, length int, chunked bool, err error) {
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		return 0, 0, false, err
	}
	if len(line) < 12 {
		return 0, 0, false, errors.New("short status line")
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, 0, false, err
	}
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return 0, 0, false, err
		}
		if len(line) <= 2 {
			return status, length, chunked, nil
		}
		name, value, _ := strings.Cut(strings.TrimRight(string(line), "\r\n"), ":")
		switch strings.ToLower(name) {
		case "content-length":
			if length, err = strconv.Atoi(strings.TrimSpace(value)); err != nil {
				return 0, 0, false, err
			}
		case "transfer-encoding":
			chunked = strings.TrimSpace(value) == "chunked"
		}
	}
}

func (c *conn) chunkLen() (int, error) {
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(strings.TrimRight(string(line), "\r\n"), 16, 31)
	return int(n), err
}

// feed opens a continuous changes feed and calls each with every line until the connection ends.
func (t *target) feed(ctx context.Context, since string, opened func(*conn), each func(line []byte)) error {
	c, err := t.dial(ctx)
	if err != nil {
		return err
	}
	c.r = bufio.NewReaderSize(c.Conn, 1<<10)
	defer c.Close()
	path := t.path + "/_changes?feed=continuous&heartbeat=60000&since=" + url.QueryEscape(since)
	if err := c.send(http.MethodGet, path, nil); err != nil {
		return err
	}
	status, _, chunked, err := c.head()
	if err != nil || status != http.StatusOK {
		return fmt.Errorf("open a continuous feed: status %d: %w", status, err)
	}
	opened(c)
	var body io.Reader = c.r
	if chunked {
		body = &chunkReader{c: c}
	}
	lines := bufio.NewReaderSize(body, 1<<10)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return err
		}
		if line = bytes.TrimSpace(line); len(line) > 0 {
			each(line)
		}
	}
}

// chunkReader undoes chunked encoding without waiting for a chunk that has not come.
type chunkReader struct {
	c    *conn
	left int
}

func (r *chunkReader) Read(p []byte) (int, error) {
	if r.left == 0 {
		n, err := r.c.chunkLen()
		if err != nil {
			return 0, err
		}
		if n == 0 {
			return 0, io.EOF
		}
		r.left = n
	}
	n, err := r.c.r.Read(p[:min(len(p), r.left)])
	r.left -= n
	if r.left == 0 && err == nil {
		_, err = r.c.r.Discard(2)
	}
	return n, err
}

// lastSeq asks for the end of the feed.
func (t *target) lastSeq(ctx context.Context) (string, error) {
	c, err := t.dial(ctx)
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	body, status, err := c.do(http.MethodGet, t.path+"/", nil)
	if err != nil || status != http.StatusOK {
		return "", fmt.Errorf("read the database: status %d: %w", status, err)
	}
	var v struct {
		UpdateSeq json.RawMessage `json:"update_seq"`
	}
	if err := json.Unmarshal(body, &v); err != nil {
		return "", err
	}
	return strings.Trim(string(v.UpdateSeq), `"`), nil
}
