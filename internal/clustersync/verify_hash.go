package clustersync

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"sync/atomic"

	"github.com/zeebo/xxh3"
	"go.mongodb.org/mongo-driver/v2/bson"
	"golang.org/x/sync/errgroup"
)

// sides are the two clusters that are compared.
type sides struct {
	source, destination Cluster
	compare             Comparison
}

// Limits of hashing.
const (
	digestBuckets   = 1024   // of one part: a difference is looked for among the documents of its bucket only
	maxBucketed     = 50_000 // hashes of single documents kept at a time for that, on each side
	hashBatchDocs   = 1000
	hashBatchBytes  = 8 << 20
	keysAtATime     = 500 // documents fetched with one call
	maxListedFields = 5   // names of members in the detail of a difference
)

// mixed reports whether the two write documents down differently.
func (s sides) mixed() bool { return s.source.Kind() != s.destination.Kind() }

// join gives a name of a document that both sides share.
func (s sides) join(k Key, kind Kind) (string, error) {
	if !s.mixed() || s.compare.Translate == nil {
		return k.ID, nil
	}
	if kind != Tidegate {
		var err error
		if k, err = s.compare.Translate(k, kind, Tidegate); err != nil {
			return "", fmt.Errorf("translate a key: %w", err)
		}
	}
	return string(k.Raw), nil
}

// translate writes a key down as the other side does.
func (s sides) translate(k Key, from, to Cluster) (Key, error) {
	if from.Kind() == to.Kind() || s.compare.Translate == nil {
		return k, nil
	}
	k, err := s.compare.Translate(k, from.Kind(), to.Kind())
	if err != nil {
		return Key{}, fmt.Errorf("translate a key: %w", err)
	}
	return k, nil
}

// canonical gives the bytes to be compared; nil: there is no such document.
func (s sides) canonical(d Document) ([]byte, error) {
	if d.Body == nil || s.compare.Canonical == nil {
		return d.Body, nil
	}
	b, err := s.compare.Canonical(d)
	if err != nil {
		return nil, fmt.Errorf("bring document %s to canonical form: %w", extendedID(d.Key), err)
	}
	return b, nil
}

// verifyPart is a range of a pair of collections. In a mixed pair the two have no order in common, and a part is the whole.
type verifyPart struct {
	pair Pair
	r    Range
}

// parts cuts a pair. Who cannot be cut is one part.
func (s sides) parts(ctx context.Context, p Pair, bytes int64) ([]verifyPart, error) {
	if s.mixed() {
		return []verifyPart{{pair: p}}, nil
	}
	ranges, err := s.source.Partition(ctx, p.Source, bytes)
	if err != nil {
		return nil, fmt.Errorf("partition %s: %w", p.Source.Namespace, err)
	}
	out := make([]verifyPart, len(ranges))
	for i, r := range ranges {
		out[i] = verifyPart{p, r}
	}
	return out, nil
}

// hashCounts count documents and bytes, of the source and of the destination.
type hashCounts struct{ documents, bytes [2]atomic.Int64 }

// digest is a sum of hashes, which does not depend on their order, and how many they are.
type digest struct {
	high, low uint64
	count     int64
}

func (d *digest) add(h xxh3.Uint128) {
	var carry uint64
	d.low, carry = bits.Add64(d.low, h.Lo, 0)
	d.high, _ = bits.Add64(d.high, h.Hi, carry)
	d.count++
}

// digests of a part by bucket of the documents' names.
type digests [digestBuckets]digest

func (d *digests) total() (count int64) {
	for _, b := range d {
		count += b.count
	}
	return count
}

// hashedDocument is a document as hashing sees it.
type hashedDocument struct {
	join string
	key  Key // as the side it is of writes it down
	sum  xxh3.Uint128
}

func (h hashedDocument) bucket() int { return int(xxh3.HashString(h.join) % digestBuckets) }

// hash reads one side of a part and calls fn for each document.
func (s sides) hash(ctx context.Context, p verifyPart, side int, counts *hashCounts, fn func(hashedDocument)) error {
	cluster, ref := s.source, p.pair.Source.Ref
	if side == 1 {
		cluster, ref = s.destination, Ref{Namespace: p.pair.Destination}
	}
	opts := ReadOptions{BatchDocs: hashBatchDocs, BatchBytes: hashBatchBytes}
	err := cluster.Read(ctx, ref, p.r, opts, func(docs []Document) error {
		for _, d := range docs {
			body, err := s.canonical(d)
			if err != nil {
				return err
			}
			if body == nil {
				continue
			}
			join, err := s.join(d.Key, cluster.Kind())
			if err != nil {
				return err
			}
			counts.bytes[side].Add(int64(len(d.Body)))
			fn(hashedDocument{join, d.Key, xxh3.Hash128Seed(body, xxh3.HashString(join))})
		}
		counts.documents[side].Add(int64(len(docs)))
		return nil
	})
	if side == 1 && errors.Is(err, ErrGone) {
		return nil // there is nothing, which is a difference
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", ref.Namespace, err)
	}
	return nil
}

// hashBoth reads both sides at a time.
func (s sides) hashBoth(ctx context.Context, p verifyPart, counts *hashCounts, fn [2]func(hashedDocument)) error {
	g, ctx := errgroup.WithContext(ctx)
	for side := range fn {
		g.Go(func() error { return s.hash(ctx, p, side, counts, fn[side]) })
	}
	return g.Wait()
}

// difference compares a part and calls found with the documents that are not the same on both sides, by their keys on the source. What
// is written meanwhile may be among them.
func (s sides) difference(ctx context.Context, p verifyPart, counts *hashCounts, found func(context.Context, []joined) error) (sum [2]digests, err error) {
	err = s.hashBoth(ctx, p, counts, [2]func(hashedDocument){
		func(d hashedDocument) { sum[0][d.bucket()].add(d.sum) },
		func(d hashedDocument) { sum[1][d.bucket()].add(d.sum) },
	})
	if err != nil {
		return sum, err
	}
	for from := 0; from < digestBuckets; {
		var wanted [digestBuckets]bool
		some := false
		for kept := int64(0); from < digestBuckets; from++ {
			if sum[0][from] == sum[1][from] {
				continue
			}
			more := max(sum[0][from].count, sum[1][from].count)
			if some && kept+more > maxBucketed {
				break
			}
			wanted[from], some, kept = true, true, kept+more
		}
		if !some {
			break
		}
		if err := s.pinpoint(ctx, p, &wanted, found); err != nil {
			return sum, err
		}
	}
	return sum, nil
}

// joined is a document by its key as the source writes it down, and the name both sides share.
type joined struct {
	id  string
	key Key
}

// pinpoint reads a part again and compares the documents of the wanted buckets one by one.
func (s sides) pinpoint(ctx context.Context, p verifyPart, wanted *[digestBuckets]bool, found func(context.Context, []joined) error) error {
	var docs [2]map[string]hashedDocument
	var uncounted hashCounts
	keep := func(side int) func(hashedDocument) {
		docs[side] = map[string]hashedDocument{}
		return func(d hashedDocument) {
			if wanted[d.bucket()] {
				docs[side][d.join] = d
			}
		}
	}
	if err := s.hashBoth(ctx, p, &uncounted, [2]func(hashedDocument){keep(0), keep(1)}); err != nil {
		return err
	}
	var out []joined
	for id, d := range docs[0] {
		if other, ok := docs[1][id]; !ok || other.sum != d.sum {
			out = append(out, joined{id, d.key})
		}
		delete(docs[1], id)
	}
	for id, d := range docs[1] {
		key, err := s.translate(d.key, s.destination, s.source)
		if err != nil {
			return fmt.Errorf("%s: %w", p.pair.Destination, err)
		}
		out = append(out, joined{id, key})
	}
	if len(out) == 0 {
		return nil
	}
	return found(ctx, out)
}

// compareKeys fetches documents from both sides and says for each what is not the same; "" for those that are equal.
func (s sides) compareKeys(ctx context.Context, p Pair, keys []Key) ([]Difference, error) {
	theirs := make([]Key, len(keys))
	for i, k := range keys {
		var err error
		if theirs[i], err = s.translate(k, s.source, s.destination); err != nil {
			return nil, fmt.Errorf("%s: %w", p.Source.Namespace, err)
		}
	}
	var docs [2][]Document
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) { docs[0], err = s.source.Fetch(ctx, p.Source.Ref, keys); return err })
	g.Go(func() (err error) {
		docs[1], err = s.destination.Fetch(ctx, Ref{Namespace: p.Destination}, theirs)
		if errors.Is(err, ErrGone) {
			docs[1], err = make([]Document, len(keys)), nil
		}
		return err
	})
	if err := g.Wait(); err != nil {
		return nil, fmt.Errorf("compare documents of %s: %w", p.Source.Namespace, err)
	}
	out := make([]Difference, len(keys))
	for i, k := range keys {
		what, detail, err := s.compareDocuments(docs[0][i], docs[1][i])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.Source.Namespace, err)
		}
		out[i] = Difference{Source: p.Source.String(), Destination: p.Destination.String(), ID: extendedID(k), What: what, Detail: detail}
	}
	return out, nil
}

func (s sides) compareDocuments(src, dst Document) (what DifferenceKind, detail string, err error) {
	a, err := s.canonical(src)
	if err != nil {
		return "", "", err
	}
	b, err := s.canonical(dst)
	switch {
	case err != nil:
		return "", "", err
	case string(a) == string(b) && (a == nil) == (b == nil):
		return "", "", nil
	case b == nil:
		return MissingDocument, "", nil
	case a == nil:
		return ExtraDocument, "", nil
	default:
		return OtherDocument, memberDifference(a, b, s.compare.Canonical == nil && src.Format == MongoDB), nil
	}
}

// extendedID writes the key of a document down for people.
func extendedID(k Key) string {
	v, err := k.Raw.LookupErr("_id")
	if err != nil {
		return k.ID
	}
	const most = 200
	s := v.String()
	if v.Type == bson.TypeString {
		s = fmt.Sprintf("%q", v.StringValue())
	}
	if len(s) > most {
		s = s[:most] + "…"
	}
	return s
}
