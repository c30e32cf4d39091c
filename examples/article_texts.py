"""Sentences of `article.py`, written for it."""

from __future__ import annotations

from typing import Final

#: Two texts each that say the same, with the article's cosine for its own pair of the kind; `UNLIKE` do not.
PAIRS: Final = [
    ("同一个崩溃", "应用一打开商品页就闪退，手机是安卓 14。", "点进商品页，程序立刻崩溃，系统为 Android 14。", 0.876),
    ("手机电池", "新买的手机掉电特别快，半天就得充一次。", "这台手机续航太差，充满电撑不到下午。", 0.91),
    ("违反合同", "乙方没有在约定的日期交货，已经构成违约。", "供货方逾期未履行交付义务，违反了合同。", 0.89),
    ("送货慢", "快递太慢了，等了一个星期还没有到。", "物流让人着急，下单七天了包裹还在路上。", 0.93),
]  # fmt: skip
UNLIKE: Final = ("并不相同", "用 Python 读取 CSV 文件", "用 Java 解析 Excel 表格", 0.41)

#: A word, a sentence that has it, one that means the same without it, and one that has it in another sense.
SENSES: Final = [
    ("柜台", "我在银行柜台办了一笔转账。", "到网点窗口请柜员帮忙汇了款。", "商场一楼的柜台在卖口红。"),
    ("利率", "央行下调了贷款利率。", "借钱买房的利息成本降低了。", "这款产品的毛利率只有两成。"),
]

#: Of the FAQ that ships: the right entry has none of the question's words.
FAQ_QUESTIONS: Final = ("用了优惠券但没减钱", "一点开软件就自己退出去")
FAQ_INSTRUCTION: Final = "Given a customer's complaint, find the FAQ entry that solves it"

#: Of the technical questions that ship: a page solves each, and another introduces its subject.
TECHNICAL_QUESTIONS: Final = (
    "数据库当前有多少连接，都是从哪来的",
    "Pod 一直是 Pending 起不来",
    "Props 传过去了，子组件里却是空的",
)

SENTENCE: Final = "系统登录超时，客户没能在截止日期前提交合同审批。"
#: Views of the sentence, and the article's cosine between each two of them.
VIEWS: Final = {
    "技术": "从技术角度分析问题的原因",
    "需求": "从用户需求的角度理解这句话",
    "法律": "从法律风险的角度评估这句话",
}
BETWEEN: Final = [("技术", "需求", 0.72), ("技术", "法律", 0.68), ("需求", "法律", 0.51)]


CLAUSE: Final = "员工连续工作满三年的，每年另有五个工作日的学习假，工资照发。"
CLAUSE_QUESTION: Final = "在公司干了三年，去进修能带薪休几天？"
#: What else a handbook says; repeated, it makes a text as long as one likes.
FILLER: Final = (
    "办公用品由行政部统一采购，各部门每季度末提交下一季度的需求清单。"
    "会议室使用前须在系统内预约，临时取消的应当提前半小时释放。"
    "差旅费凭有效票据在返回后十个工作日内报销，逾期须经部门负责人书面说明。"
    "访客进入办公区应当登记并由接待人全程陪同。"
)
#: Tokens of the long texts, about.
LENGTHS: Final = (256, 1024, 4096, 8192)
