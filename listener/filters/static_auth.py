"""`static-auth`: checks users and passwords of the configuration (docs/filters/static-auth.md)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from functions.errors import ConfigError
from functions.message.text import listed
from functions.options.secrets import Secret, Unavailable
from functions.options.types import CAMEL, Milliseconds
from listener.api.decision import ACCEPT, DEFER, REFUSE, Decision, Phase
from listener.api.filter import BuildContext, Filter, FilterOptions, Operator
from listener.api.session import Credentials, Session
from listener.filters.passwords.htpasswd import Htpasswd
from listener.filters.passwords.queue import CheckQueue
from listener.filters.passwords.remembered import LONGEST, Remembered
from listener.filters.passwords.stored import Plain, StoredPassword, is_bare, parse

THREADS: Final = 2
"""Most slow hashes that one filter computes at once; each takes up to a core, and memory (argon2:
usually 64 MiB)."""

_CURE: Final = "smtp-relay hash-password makes one"

UserName = Annotated[str, Field(min_length=1)]


class StaticAuthOptions(FilterOptions):
    """Check credentials against users and passwords given here or in a file. Passwords are `ALGO:hex`
    for any hash algorithm, argon2id or bcrypt strings, or `plain:` and the password itself."""

    model_config = CAMEL

    type: Literal["static-auth"]

    username: UserName | None = None
    """The one user. Default: `SMTP_USERNAME`."""

    password: Secret | None = None
    """Default: `SMTP_PASSWORD`."""

    salt: Secret | None = None
    """Makes `ALGO:hex` passwords HMACs with this key. Default: `SMTP_PASSWORD_SALT`."""

    users: dict[UserName, Secret] = Field(default_factory=dict)
    """More users: name to password."""

    htpasswd: Annotated[str, Field(min_length=1)] | None = None
    """A file of users: bcrypt, argon2, `$apr1$` or `{SHA}`; reread when it changes."""

    remember_for: Milliseconds = Field(default=60_000, le=60_000)
    """Time for which right credentials with a slow hash (argon2, bcrypt) are remembered."""

    checks_credentials = True
    checked_mechanisms = frozenset({"CRAM-MD5"})

    def never_accepts(self, environ: Mapping[str, str], *, auth: bool, names: bool) -> str:
        user = self.username or environ.get("SMTP_USERNAME")
        one = user and (self.password or environ.get("SMTP_PASSWORD"))
        if reason := super().never_accepts(environ, auth=auth, names=names):
            return reason
        if one or self.users or self.htpasswd:
            return ""
        return "has no user: give username and password, or set SMTP_USERNAME and SMTP_PASSWORD"

    def described(self, operator: Operator) -> str:
        names = [*([self.username] if self.username else ()), *self.users]
        others = [f"a user of {self.htpasswd}"] if self.htpasswd else []
        return "of clients that log in" + (f" as {listed([*names, *others])}" if names or others else "")

    def files_read(self) -> Mapping[str, str]:
        return {} if self.htpasswd is None else {"htpasswd": self.htpasswd}


class Users:
    """Users, and the check of a name and password, which takes as long for an unknown name as for a
    wrong password."""

    def __init__(self, users: Mapping[str, StoredPassword]) -> None:
        self._users = users
        self._slowest: StoredPassword = max(users.values(), key=lambda one: one.weight, default=Plain(b""))
        self.weight = self._slowest.weight
        """Roughly the seconds of a check; 0 for an immediate one."""

    def check(self, username: str, password: str) -> bool:
        """True if the user exists and this is the password."""
        given = password.encode("utf-8", "surrogatepass")
        stored = self._users.get(username)
        right = stored is not None and stored.matches(given)
        if not right and (stored is None or stored.weight < self.weight):
            # Hashes differ in cost: every refused client has waited for the slowest of them.
            self._slowest.matches(given)
        return right

    def stored(self, username: str) -> StoredPassword | None:
        """The user's stored password."""
        return self._users.get(username)

    def at_once(self, username: str, password: str) -> bool:
        """True if this is the password of a user whose check is immediate."""
        stored = self._users.get(username)
        return (
            stored is not None
            and not stored.weight
            and stored.matches(password.encode("utf-8", "surrogatepass"))
        )

    def __contains__(self, username: str) -> bool:
        return username in self._users

    def plain(self, username: str) -> Plain | None:
        """The user's password if it is kept in plain text."""
        stored = self._users.get(username)
        return stored if isinstance(stored, Plain) else None


class StaticAuth(Filter):
    """Accepts the credentials of its users and refuses all others.

    `users` come from the configuration and go before those of the file. Slow hashes are computed
    in a few threads, one at a time for each client address, so that a flood of guesses delays the logins
    of its own addresses; right credentials are remembered for `remember` seconds.
    """

    phases = frozenset({Phase.AUTH})
    checks_credentials = True

    def __init__(
        self,
        name: str,
        users: Mapping[str, StoredPassword],
        file: Htpasswd | None = None,
        *,
        remember: float = LONGEST,
    ) -> None:
        super().__init__(name)
        self._remembered = Remembered(remember)
        self._queue = CheckQueue(self._threads, THREADS)
        self._configured = users
        self._file = file
        self._users = self._merged()
        self._pool: ThreadPoolExecutor | None = None
        self._nobody = Plain(b"nobody")
        # CRAM-MD5 can be checked only against plain-text passwords. Clients choose it if it is
        # offered, and then users with hashes could not log in.
        self.supports_cram_md5 = file is None and all(isinstance(one, Plain) for one in users.values())

    def on_auth(self, session: Session, credentials: Credentials) -> Any:
        if credentials.mechanism == "CRAM-MD5":
            return self._cram_md5(credentials)
        if credentials.mechanism not in ("PLAIN", "LOGIN"):
            return REFUSE  # a token is not a password
        if self._file is not None and self._file.due:
            if self._file.large:
                return self._after_refresh(session, credentials)
            self._refresh()
        return self._checked(session, credentials)

    def fingerprint(self) -> str:
        return self._file.digest if self._file is not None else ""

    def may_know(self, username: str) -> bool:
        return username in self._users

    def forget(self) -> None:
        self._remembered.forget()

    async def stop(self) -> None:
        """Let the threads end after their present computations."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=False)

    def _checked(self, session: Session, credentials: Credentials) -> Any:
        users, username, password = self._users, credentials.username, credentials.password
        if not users.weight:
            return self._decision(users.check(username, password))
        if self._remembered.knows(username, users.stored(username), password):
            if self._file is not None and not self._file.large:
                # The user may have been revoked a moment ago.
                self._refresh(at_once=True)
            if self._users is users:
                return ACCEPT
        if self._users.at_once(username, password):
            return ACCEPT
        return self._slowly(session, credentials)

    async def _slowly(self, session: Session, credentials: Credentials) -> Decision:
        username, password = credentials.username, credentials.password
        while True:
            users = self._users
            work = partial(users.check, username, password)
            right = await self._queue.run(session.ip, username, session.failed_logins, work)
            # The user may have been revoked while the check waited for its turn.
            await self._look_again(at_once=right)
            if not right or self._users is users:
                break
        stored = users.stored(username)
        if right and stored is not None:
            self._remembered.add(username, stored, password)
        return self._decision(right)

    async def _look_again(self, *, at_once: bool = False) -> None:
        if self._file is None:
            return
        if not self._file.large:
            self._refresh(at_once=at_once)
        elif self._file.due:
            await asyncio.get_running_loop().run_in_executor(self._threads(), self._refresh)

    async def _after_refresh(self, session: Session, credentials: Credentials) -> Decision:
        await self._look_again()
        found = self._checked(session, credentials)
        decision: Decision = await found if asyncio.iscoroutine(found) else found
        return decision

    def _refresh(self, *, at_once: bool = False) -> None:
        if self._file is not None and self._file.refresh(at_once=at_once):
            self._users = self._merged()
            self._remembered.forget()

    def _threads(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix=self.name)
        return self._pool

    def _decision(self, right: bool) -> Decision:
        if right:
            return ACCEPT
        return DEFER if self._file is not None and self._file.users is None else REFUSE

    def _cram_md5(self, credentials: Credentials) -> Decision:
        stored = self._users.plain(credentials.username)
        right = (stored or self._nobody).answers(credentials.challenge, credentials.password)
        return ACCEPT if right and stored is not None and credentials.challenge else REFUSE

    def _merged(self) -> Users:
        from_file = (self._file.users if self._file is not None else None) or {}
        return Users({**from_file, **self._configured})


def build(options: StaticAuthOptions, name: str, context: BuildContext) -> StaticAuth:
    """The filter, with its secrets resolved. Raises ConfigError for a user without a password, a
    password of unknown form, and an unreadable file."""
    salt = _text(options.salt, "SMTP_PASSWORD_SALT", context)
    users: dict[str, StoredPassword] = {}

    def add(username: str, key: str, secret: Secret) -> None:
        where = f"filter {name}: {key}"
        if username in users:
            raise ConfigError(where, "is the username too", "leave one of them out")
        users[username] = _stored(where, secret, salt, context)

    said = options.username is not None or options.password is not None
    if said or not (options.users or options.htpasswd):
        username, password = _single(options, name, context)
        add(username, "password", password)
    for username, secret in options.users.items():
        add(username, f"users[{username!r}]", secret)
    file = _file(options.htpasswd, name, context) if options.htpasswd else None
    return StaticAuth(name, users, file, remember=options.remember_for / 1000)


def _file(path: str, name: str, context: BuildContext) -> Htpasswd:
    try:
        return Htpasswd(context.folder / path)
    except ConfigError as error:
        cure = error.cure or "write the file with htpasswd -B"
        raise ConfigError(f"filter {name}: htpasswd", f"{error.where}: {error.what}", cure) from error


def _single(options: StaticAuthOptions, name: str, context: BuildContext) -> tuple[str, Secret]:
    username = options.username or _text(None, "SMTP_USERNAME", context)
    password = options.password
    if password is None and context.environ.get("SMTP_PASSWORD"):
        password = Secret("env:SMTP_PASSWORD")
    if username and password:
        return username, password
    missing = " and no ".join(
        what for what, value in (("username", username), ("password", password)) if not value
    )
    raise Unavailable(
        f"filter {name}", f"has no {missing}", "set username and password, or SMTP_USERNAME and SMTP_PASSWORD"
    )


def _text(secret: Secret | None, variable: str, context: BuildContext) -> str | None:
    if secret is not None:
        return secret.resolve(context.secrets)
    return context.secrets(f"env:{variable}") if variable in context.environ else None


def _stored(where: str, secret: Secret, salt: str | None, context: BuildContext) -> StoredPassword:
    text = secret.resolve(context.secrets)
    inline = secret.scheme == "plain"
    if not text:
        raise ConfigError(where, f"{secret.shown} is empty", _filled(secret))
    if "\n" in text:
        raise ConfigError(where, "holds several lines", "a password is one line")
    if inline and secret.meant:
        what = (
            "looks like an environment variable" if secret.meant.startswith("env:") else "has no known prefix"
        )
        raise ConfigError(where, f"{what}, not a hash algorithm nor plain:", f"write {secret.meant}")
    if not inline and is_bare(text):
        context.warn(
            where,
            f"{secret.shown} holds a password in plain text",
            "put plain: before it, or its hash, which smtp-relay hash-password makes",
        )
        text = f"plain:{text}"
    try:
        return parse(text, salt.encode() if salt else None)
    except ValueError as error:
        raise ConfigError(where, str(error), _CURE) from None


def _filled(secret: Secret) -> str:
    if secret.scheme == "env":
        return f"set {secret.shown.removeprefix('env:')} to plain:PASSWORD, or to a hash"
    return "write plain:PASSWORD, or a hash"
