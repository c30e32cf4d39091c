"""One thing that is wrong: how bad it is, what it is, why it matters, and the command to run. In English and Chinese."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Severity(StrEnum):
    """How bad it is."""

    CRITICAL = "critical"  #: work stands still, or may be lost
    WARNING = "warning"  #: something is slow, waits or fails
    NOTE = "note"  #: worth knowing; nothing has to be done at once


class Kind(StrEnum):
    """What can be wrong, the causes before their effects."""

    REDIS_AWAY = "redis_away"
    REDIS_FULL = "redis_full"
    REDIS_EVICTS = "redis_evicts"
    QDRANT_AWAY = "qdrant_away"
    DEAD_FULL = "dead_full"
    HUNG = "hung"
    NO_WORKER = "no_worker"
    NOBODY = "nobody"
    DYING = "dying"
    VANISHED = "vanished"
    WAITING = "waiting"
    SLOW_STORE = "slow_store"
    QUEUE_FULL = "queue_full"
    POISON = "poison"
    DEAD_RISING = "dead_rising"
    LOADING = "loading"
    DEAD_KEPT = "dead_kept"


@dataclass(frozen=True, slots=True)
class Trouble:
    """One of them, here and now."""

    kind: Kind
    severity: Severity
    #: What to type; a shell's line.
    command: str
    #: What the sentences are about.
    facts: Mapping[str, object] = field(default_factory=dict)

    def what(self, language: str = "en") -> str:
        """What is wrong, in a sentence."""
        return SENTENCES[language][self.kind][0].format_map(self.facts)

    def why(self, language: str = "en") -> str:
        """What that means, and what the command is for. What servers and workers said is in their own words."""
        return SENTENCES[language][self.kind][1].format_map(self.facts)


#: By language and kind: what, and why.
SENTENCES: Mapping[str, Mapping[Kind, tuple[str, str]]] = {
    "en": {
        Kind.REDIS_AWAY: (
            "Redis at {url} cannot be used.",
            "{error} Nothing is taken in or handed out until it answers; then work goes on by itself, and nothing is lost. "
            "Ask it yourself, and start it if it does not answer:",
        ),
        Kind.REDIS_FULL: (
            "Redis is full: {used:,} of {limit:,} bytes.",
            "From seven eighths of its memory on `enqueue` waits, so that work that was taken before can be finished. Give "
            "Redis more memory (and put it into its configuration, too), or drop dead letters:",
        ),
        Kind.REDIS_EVICTS: (
            "Redis may throw work away: its policy is {policy}.",
            "When its memory is full it would forget documents that were accepted. It must refuse new ones instead:",
        ),
        Kind.QDRANT_AWAY: (
            "Qdrant at {url} cannot be used.",
            "{error} Searches fail. Work goes back to the queue and waits; nothing is lost, and it goes on by itself. Ask "
            "Qdrant yourself, and start it if it does not answer:",
        ),
        Kind.DEAD_FULL: (
            "The dead letters have reached their mark: {bytes:,} of {most:,} bytes.",
            "Workers take no more work, so that none is given up for want of room. See why documents died, then replay or "
            "drop them, or raise GRISTMILL_DEAD_MAX_BYTES={most}:",
        ),
        Kind.HUNG: (
            "The device of {worker} hangs: one batch of {model} has been on it for {seconds:,.0f} s.",
            "A batch takes seconds at most. The process ends itself after {setting} seconds, which is in {left}; its "
            "supervisor starts another, and its documents come back. To do that now, on {host}:",
        ),
        Kind.NO_WORKER: (
            "Nobody serves {model}, and {documents:,} documents wait for it.",
            "The oldest has waited for {oldest}. Only a worker that was started with this model does this work:",
        ),
        Kind.NOBODY: (
            "No worker is running.",
            "Nothing that is enqueued will be stored, and searches that need a model fail. Start one:",
        ),
        Kind.DYING: (
            "Workers die again and again: {workers} in {seconds:,.0f} s.",
            "None of them has drained. Either a document ends whatever process reads it: then each "
            "parcel of the dead is tried alone, and after its attempts the document is a dead letter (`gristmill dead "
            "list`), the others are stored, and it ends by itself. Or they are killed from outside, mostly for want of "
            "memory. On {host}, what the kernel has killed:",
        ),
        Kind.VANISHED: (
            "{worker} has stopped without a word, with {parcels:,.0f} parcels in hand.",
            "It was there {ago:,.0f} s ago and has not drained since: killed, stopped or cut off. What it holds goes to "
            "others after {setting} seconds, which is in {left}. On {host}, see whether its process moves:",
        ),
        Kind.WAITING: (
            "Work waits: {worker}.",
            "No work is taken, or not all of it, and nothing is lost. Said there: {notice}",
        ),
        Kind.SLOW_STORE: (
            "Qdrant is slow: workers spend {share:.0%} of their time waiting for it, and a bare answer takes {ms:,.0f} ms.",
            "The devices idle meanwhile, and more workers would not help. Usual causes: an index that is built while much "
            "is loaded (`gristmill collections begin-bulk NAME` puts it off), slow disks, too little memory, a rate limit. "
            "Qdrant's own figures:",
        ),
        Kind.QUEUE_FULL: (
            "The queue has reached its mark: {documents:,} documents in {bytes:,} bytes.",
            "`enqueue` waits until workers have made room. Start more of them; or, if Redis has the memory, raise "
            "GRISTMILL_QUEUE_MAX_DOCUMENTS={most_documents} or GRISTMILL_QUEUE_MAX_BYTES={most_bytes}:",
        ),
        Kind.POISON: (
            "Documents of {collection} are bad themselves: {letters:,} died of {error}.",
            "Their neighbours were stored. The newest says: {reason} Look at them, mend them and enqueue them again, or "
            "replay them once the cause is gone:",
        ),
        Kind.DEAD_RISING: (
            "Dead letters are rising: {rise:,} more in {minutes:,.0f} min, {letters:,} now.",
            "Most of them: {error} in {collection}. {reason} By reason:",
        ),
        Kind.LOADING: (
            "A worker is loading {model}, for which {documents:,} documents wait.",
            "That takes up to some minutes, and nothing has to be done. To watch it:",
        ),
        Kind.DEAD_KEPT: (
            "{letters:,} dead letters are kept.",
            "They died some time ago, and none has come since. They stay until somebody replays or drops them:",
        ),
    },
    "zh": {
        Kind.REDIS_AWAY: (
            "无法使用 Redis（{url}）。",
            "{error} 在它恢复之前，既不接收也不分发任务；恢复后会自动继续，不会丢失任何数据。"
            "请先确认它是否响应，没有响应就启动它：",
        ),
        Kind.REDIS_FULL: (
            "Redis 内存已满：{used:,} / {limit:,} 字节。",
            "内存超过八分之七后，`enqueue` 会等待，好让已接收的任务有余量完成。"
            "请为 Redis 增加内存（同时写入它的配置文件），或清理死信：",
        ),
        Kind.REDIS_EVICTS: (
            "Redis 可能会丢弃任务：它的淘汰策略是 {policy}。",
            "内存满时，它会淘汰已经接收的文档。应当让它拒绝新写入：",
        ),
        Kind.QDRANT_AWAY: (
            "无法使用 Qdrant（{url}）。",
            "{error} 搜索会失败；任务退回队列等待，不会丢失，恢复后自动继续。请先确认它是否响应，没有响应就启动它：",
        ),
        Kind.DEAD_FULL: (
            "死信已达上限：{bytes:,} / {most:,} 字节。",
            "工作进程已停止领取任务，以免因为没有空间而放弃文档。请查看死亡原因，然后重放或删除，"
            "或调高 GRISTMILL_DEAD_MAX_BYTES={most}：",
        ),
        Kind.HUNG: (
            "{worker} 的计算设备卡住了：{model} 的一个批次已经运行了 {seconds:,.0f} 秒。",
            "一个批次通常只需几秒。超过 {setting} 秒（还剩 {left}）后进程会自行退出，由监督进程重新启动，"
            "文档会重新处理。如需立即处理，请在 {host} 上执行：",
        ),
        Kind.NO_WORKER: (
            "没有工作进程提供模型 {model}，有 {documents:,} 个文档在等待。",
            "最早的已等待 {oldest}。只有加载了该模型的工作进程才能处理这些任务：",
        ),
        Kind.NOBODY: (
            "没有正在运行的工作进程。",
            "新提交的文档不会被存储，需要模型的搜索也会失败。请启动一个：",
        ),
        Kind.DYING: (
            "工作进程接连死亡：{seconds:,.0f} 秒内 {workers} 个。",
            "它们都没有正常退出。可能是某个文档会让读取它的进程崩溃：这时相关任务会逐个单独重试，"
            "用完次数后该文档成为死信（`gristmill dead list`），其余文档正常存储，会自行结束；"
            "也可能是被外部终止，多半因为内存不足。请在 {host} 上查看内核终止了哪些进程：",
        ),
        Kind.VANISHED: (
            "{worker} 突然没有了消息，手中还有 {parcels:,.0f} 个任务包。",
            "{ago:,.0f} 秒前它还在，之后没有正常退出：可能被终止、被暂停或断网。"
            "它手中的任务在 {setting} 秒（还剩 {left}）之后会交给其他进程。请在 {host} 上检查它的进程：",
        ),
        Kind.WAITING: (
            "任务在等待：{worker}。",
            "暂不领取全部或部分任务，不会丢失任何数据。进程的说明：{notice}",
        ),
        Kind.SLOW_STORE: (
            "Qdrant 缓慢：工作进程有 {share:.0%} 的时间在等它，一次空应答需要 {ms:,.0f} 毫秒。",
            "计算设备因此空闲，增加工作进程没有用。常见原因："
            "大量写入的同时在构建索引（`gristmill collections begin-bulk NAME` 可推迟构建）"
            "、磁盘慢、内存不足、限流。Qdrant 自己的指标：",
        ),
        Kind.QUEUE_FULL: (
            "队列已达上限：{documents:,} 个文档，{bytes:,} 字节。",
            "`enqueue` 会等到工作进程腾出空间。请增加工作进程；如果 Redis 内存充足，"
            "也可以调高 GRISTMILL_QUEUE_MAX_DOCUMENTS={most_documents} 或 GRISTMILL_QUEUE_MAX_BYTES={most_bytes}：",
        ),
        Kind.POISON: (
            "{collection} 中有文档本身有问题：{letters:,} 个因 {error} 死亡。",
            "其余文档已正常存储。最近一条的原因：{reason} 请查看这些文档，修正后重新提交，或在排除原因后重放：",
        ),
        Kind.DEAD_RISING: (
            "死信在增加：{minutes:,.0f} 分钟内新增 {rise:,} 条，共 {letters:,} 条。",
            "最多的是 {collection} 中的 {error}。{reason} 按原因查看：",
        ),
        Kind.LOADING: (
            "有工作进程正在加载 {model}，有 {documents:,} 个文档在等待。",
            "加载最多需要几分钟，无需操作。可以这样观察：",
        ),
        Kind.DEAD_KEPT: (
            "保留着 {letters:,} 条死信。",
            "它们是较早之前产生的，最近没有新增。在有人重放或删除之前会一直保留：",
        ),
    },
}
