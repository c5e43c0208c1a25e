"""Starts SecantusDB for a test: python launch.py PORT DIRECTORY [auth] [as-is] [oplog=N]

It ends when its standard input does, so that no server outlives its test. Unless told "as-is", it repairs what SecantusDB 0.7.0b3 does
otherwise than MongoDB where a sync depends on it; DESIGN.md lists the repairs. Nothing of SecantusDB's is copied here: its own
functions are called, and what they leave out is added around them.
"""

import os
import sys
import threading
import uuid

import bson
from secantus import SecantusDBServer, commands
from secantus.storage import Storage

INTERNAL = ("admin", "local", "config")
WRITES = ("insert", "update", "delete", "findAndModify", "findandmodify", "create", "drop", "dropDatabase", "createIndexes", "dropIndexes", "collMod", "renameCollection")
BYPASS = ("root", "restore", "__system")


def keep_identity_on_rename():
    """A renamed collection keeps its UUID and options."""
    rename = Storage.rename_collection

    def renamed(self, src_db, src_coll, dst_db, dst_coll, **kw):
        with self._lock:
            options = None
            if self._coll_options(src_db, src_coll) is not None:
                self._collection_uuid(src_db, src_coll)
                options = self._coll_options(src_db, src_coll)
            ok, message = rename(self, src_db, src_coll, dst_db, dst_coll, **kw)
            if ok and options and (src_db, src_coll) != (dst_db, dst_coll):
                self._write_coll_options(dst_db, dst_coll, options)
            return ok, message

    Storage.rename_collection = renamed


def views_have_no_uuid():
    """Events about views carry no UUID."""
    drop, emit = Storage.drop_collection, Storage._emit_oplog

    def dropped(self, db, coll):
        with self._lock:
            options = self._coll_options(db, coll) or {}
            self._tls.drops_view = "viewOn" in options
            try:
                return drop(self, db, coll)
            finally:
                self._tls.drops_view = False

    def emitted(self, entries, *args, **kw):
        if getattr(self._tls, "drops_view", False):
            for entry in entries:
                entry.pop("ui", None)
        return emit(self, entries, *args, **kw)

    Storage.drop_collection, Storage._emit_oplog = dropped, emitted


def oplog_notes():
    """appendOplogNote."""

    def append(doc, ctx):
        if not isinstance(doc.get("data"), dict):
            return {"ok": 0.0, "code": 40414, "codeName": "IDLFailedToParse", "errmsg": "BSON field 'appendOplogNote.data' is missing but a required field"}
        ctx.storage._emit_oplog([{"op": "n", "ns": "", "o": dict(doc["data"])}])
        return {"ok": 1.0}

    commands._HANDLERS["appendOplogNote"] = append


def collection_uuids():
    """A read with the UUID of another collection is refused, with the name of the one that has it."""
    find = commands._HANDLERS["find"]

    def guarded(doc, ctx):
        want = doc.get("collectionUUID")
        if want is not None:
            name, want = doc["find"], bytes(want.bytes if hasattr(want, "bytes") else want)
            names = {c: ctx.storage.collection_uuid(ctx.db_name, c).bytes for c in ctx.storage.list_collections(ctx.db_name)}
            if names.get(name) != want:
                actual = next((c for c, u in names.items() if u == want), None)
                return {"ok": 0.0, "code": 361, "codeName": "CollectionUUIDMismatch", "errmsg": "Collection UUID does not match that specified",
                        "db": ctx.db_name, "collectionUUID": bson.Binary(want, 4), "expectedCollection": name, "actualCollection": actual}
        return find(doc, ctx)

    commands._HANDLERS["find"] = guarded


def uuids_of_what_is_there():
    """Asking for the UUID of a collection that was dropped or renamed a moment ago does not bring it back."""
    uuid_of = Storage.collection_uuid

    def asked(self, db, coll):
        with self._lock:
            if self._coll_options(db, coll) is None:
                return uuid.uuid4()
            return uuid_of(self, db, coll)

    Storage.collection_uuid = asked


def write_blocking():
    """setUserWriteBlockMode, for users without a role that bypasses it. As on mongod it waits for the writes that have begun: none lands
    after it has answered."""
    state = {"blocked": False, "writing": 0}
    turn = threading.Condition()

    def concerned(doc, ctx):
        # Renaming is a command of the database admin, of whatever database the collection is.
        database = doc["renameCollection"].split(".")[0] if "renameCollection" in doc else ctx.db_name
        roles = ctx.connection_auth.effective_roles if ctx.connection_auth else []
        bypasses = not ctx.require_auth or any(r.get("role") in BYPASS for r in roles)
        return not bypasses and database not in INTERNAL

    def wrap(handler):
        def write(doc, ctx):
            if not concerned(doc, ctx):
                return handler(doc, ctx)
            with turn:
                if state["blocked"]:
                    return {"ok": 0.0, "code": 371, "codeName": "UserWritesBlocked", "errmsg": "User writes blocked"}
                state["writing"] += 1
            try:
                return handler(doc, ctx)
            finally:
                with turn:
                    state["writing"] -= 1
                    turn.notify_all()

        return write

    for name in WRITES:
        commands._HANDLERS[name] = wrap(commands._HANDLERS[name])

    def mode(doc, ctx):
        if not isinstance(doc.get("global"), bool):
            return {"ok": 0.0, "code": 40414, "codeName": "IDLFailedToParse", "errmsg": "BSON field 'setUserWriteBlockMode.global' is missing but a required field"}
        with turn:
            state["blocked"] = doc["global"]
            turn.wait_for(lambda: not state["blocked"] or state["writing"] == 0)
        return {"ok": 1.0}

    status = commands._HANDLERS["serverStatus"]

    def with_mode(doc, ctx):
        reply = status(doc, ctx)
        reply["repl"] = {"setName": ctx.replica_set_name, "userWriteBlockMode": 2 if state["blocked"] else 1}
        return reply

    commands._HANDLERS["setUserWriteBlockMode"], commands._HANDLERS["serverStatus"] = mode, with_mode


def main():
    port, directory, words = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
    if "as-is" not in words:
        for repair in (keep_identity_on_rename, views_have_no_uuid, oplog_notes, collection_uuids, uuids_of_what_is_there, write_blocking):
            repair()
    settings = dict(w.split("=", 1) for w in words if "=" in w)
    # A note that is in the oplog when a batch of events is read moves the stream on only with the next entry, so there are many.
    server = SecantusDBServer(port=port, storage_path=directory, require_auth="auth" in words, noop_heartbeat_seconds=0.1,
                              oplog_max_entries=int(settings.get("oplog", 1_000_000)))
    server.start()
    print("ready", flush=True)
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    ended.wait()
    server.stop()
    os._exit(0)


main()
