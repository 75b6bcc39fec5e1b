"""cars_train.tgz, cars_test.tgz, car_devkit.tgz and the annotations of the test images, which came later.

Images are numbered from 1 in either archive, classes too; the devkit's test annotations lack the classes.
"""

import io
from base64 import b85decode
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.io import savemat

from .pictures import archive, encoded

DRAWN = True
SMALL = {"train": 28, "holdout": 2, "test": 6}  # official numbers, so the committed holdout is met: 5 and 29
CLASSES = ("AM General Hummer SUV 2000", "Acura RL Sedan 2012", "Ram C/V Cargo Van Minivan 2012")
FIELDS = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname")


def saved(**content: np.ndarray) -> bytes:
    file = io.BytesIO()
    savemat(file, content)
    return file.getvalue()


def annotations(labels: Sequence[int], names: Sequence[str] = FIELDS) -> bytes:
    """Give annotations as their file has them: a row of structures, their classes from 1 on."""
    rows = np.empty((1, len(labels)), [(name, object) for name in names])
    for i, label in enumerate(labels):
        known = {"class": np.uint8(label + 1), "fname": f"{i + 1:05}.jpg"}
        rows[0, i] = tuple(known.get(name, np.uint16(i + 1)) for name in names)
    return saved(annotations=rows)


def write(folder: Path) -> None:
    labels = {"train": [i * 7 % 3 for i in range(30)], "test": [2, 0, 1, 0, 0, 1]}
    for part, own in labels.items():
        images = {f"cars_{part}/{i:05}.jpg": encoded(label, part) for i, label in enumerate(own, 1)}
        archive(folder / f"cars_{part}.tgz", images)
    devkit = {
        "cars_train_annos": annotations(labels["train"]),
        "cars_test_annos": annotations(labels["test"], [name for name in FIELDS if name != "class"]),
        "cars_meta": saved(class_names=np.array(CLASSES, object)[None]),
    }
    archive(folder / "car_devkit.tgz", {f"devkit/{name}.mat": own for name, own in devkit.items()})
    (folder / "cars_test_annos_withlabels.mat").write_bytes(annotations(labels["test"]))


def lists(root: Path) -> None:
    """The classes of the training images are the official ones; there are no boxes, for they take seconds."""
    labels = {"cars_train_annos": TRAIN_LABELS, "cars_test_annos_withlabels": [i % 196 for i in range(8_041)]}
    for name, own in labels.items():
        (root / f"{name}.mat").write_bytes(annotations(own, ("class", "fname")))
    (root / "cars_meta.mat").write_bytes(
        saved(class_names=np.array([f"car {i}" for i in range(196)], object))
    )


# The official classes of cars_train/00001.jpg to 08144.jpg, a byte each (devkit/train_perfect_preds.txt).
TRAIN_CLASSES = b85decode(
    """
4g*_;YI|8=r#dmZhgHF>4oSc{Pb7G%!iKn3w8EN;LWP=WCShrg4Zn9Lx*5W;ttwlT4`C`bEJ0d)a=vA|2oZ031s#4~YHGYYZYzav2*46_F_A
H<6mq4CuW)*3IWr|k!D&58g`$I4d9<{Ng-26vDzTHHZ5)s_9YRkHh>xpThoL%pvN*WEC_I}-j4DjKRtN<z9uk$VinAChNw5JWBy1@tcXtz`c
s6uGGJ2biM5>{og?*r1w=IvoFtAO&ZU(;)3|hQ^7YkhoKdrDx!*WP>5=|0o3dCbrd2c<9h_`A~!h~-JK^hQ>s%EGMJ*SDWnZBoKGJ^&cA2Yj
#5N9YwHxVvMxq7Z-MHGUBt(-4wmpy4-!oyp=4~&iqXfQH(SFw|+c@rO;k5f7Ze}fN67+0!$o(nGrUQ4#RfWfpra;CLqXBK^MCTchdL#dOIaX
*naSyn2KbvdeYCmlLQcQSxAH6XD&fC^KntOl@$g`75HeUdsmjW|DpFrcOc!;^!h7bqIFSP^ct3QIc^y#)@iP*yi^GC4_On4(n$2f}r;Nx8eD
q^m$PV;V7QbH0yHv>2kYv=6;(c`?E&c5GC(vjJI!yRr^%U0f23L4mi8e6DzH54c)>O*$|*X&reza;;WTxp$vbp;!rlfv19}6>?)}C~cxOD{Z
1fnE`WtOl-e-J)w<Ihl`pvtZR!%dRDr#lOit-4Pq)TyNZybxKg5P6+41Rw;f!HI(>t;s#1A(M+_mqF^a*tS-zM|DYY^pP_9LLOB}isKNJv6p
kh0gdy!C2sdGzWd|7)sku)S!g*J&>gG>b&oe2q<Wep{kwim)}MN>0~j3Bm-5IwKCCZvB0J$+OioVbTjMgoa<R(B>nWE*9O6k53%i4Tm77z_e
BRz7cf1T%pJABuB{Uy%W%Brd6yRy=YhYLU25bxIR6Kc$yRfuCn77^Q-<ST{NYZv|J0Jt?O}EEqSaYF`YQd@(PoSFEn36|NRiJs7AI0b7c9c(
g<kSY=OV7Qc;iqJxJc7>hHwzZ<M;XQLRVzFc{Cpl@|Vi&BX>kD!M?PMAJ&7jA^3KQujYhj<vVPQj8omvW!0yjGu}Jch%=nMa8!b^;z~W_L|z
5j0m=yBsYyqefs$P6k^DzqW&0!7l+0qp7*QYkq|+ECv*>kiBE8NxXVBJ}8O@n3Z3YToi-^xi>RINh+>6LLt99wHJ~PjVr4aem*iTYyoRfbiZ
H2tiw?hOTd?Gp}jYBJsU(lU^F7BTyqe<AwE}SGMs?5C50##HK8A<b8tUsJUTjeD=WY_L8^%>Mh0aDm}J7Lf1;>Uq8A#Qfi*I;MvnqEJpzXtf
3_)DcS(F(mBCUJr-Uk)t1EAZPhA>CAU#ecB9?N$QC2(=7)5U<EvF^G#9VPP4mU}k9+?&yT^2Z>5^ybpXjU+}2d6?er?|brSVtW<ZFZ2mzakV
1HZ2_<A1iT>I0bt&S|_`|svmj2c{o4{rDYaQVUl2O54*z`Qm$7YBzqMuNsU-~k$Q1Kr7H^%exaEzGzgtunLl(MFnbu6BsD&cG8L<gDI72!t`
2Nkh68fBpP^BCjzE(qyS*hXR7#%?iZPtDt#2H>O<tOt6LzAYF18TFC7T9Eg<n};RaB1zxq5##v@D*4W=I_g0Z@Z#FSrOO!-Ak*HKmChE^A(M
3>3OLkg~stk)2T&N~~B`412vfz(cjTu?KP|Mng(Fr8NkCg0n5XyrNznNjt!PRt>WykezTSADp<TEIUv;32%%#F>_Fbp%q*Wf}g5+VOPL>E;V
sguBwA=fV@csf1DngLvJgHDs~Q|n~-C^D{VK02wNEkoK!}nVSpQZ3uu))e@eneFJir*P$6Adl%^sykB~KPy$_ySz<Q8)4{<)OV3MW5bB?kHB
&R{WA)1S^Ms&E1S8WI`D-Tb$BDt279T1!kS+bcNun~=do(i~#Gqf}s!+#cNslqcImngRuWMN=~nzp=OK@$Rf2T#MkSV^KsT}xi4aJ!=^9IbL
uGG$J8s&tZ~rMs{tt%$5pH)m*FPzxm?3nO{3nU|_(54#eQCbz?*cyCA;d76(gNKms45-4LuATKmi2E1Yrl01kVoOw2Dv}%HwouGMEfKnC=rG
69>Q)@PZN+?W0qCa{dm9K(i0j(Q;ikOmjg}yH#QKutfEDAsgAyZbDU2z_2P)0J0gGz(Ec6+@NUpy{U0|z)RU^kjas~QahnUx=>U}>InvZ8*R
mX<?T4UDZtgoeYLi-S;*M^CAOodY#IDufN7CUUiVw+ye9Z(0iplrNkoY{MU~WfpL#brBC=NeX*dS8=K*bh1uPnyXZNUrY^M4>lr8u@y8so5D
6uG%g6F9g9)ABUL{!i-dFm3w&EwS{oXW8l$?xqLw!od5j+j!XtBeEVZn^lxBYhzhlE1dIKo2YeuIr4}>2MLv|KLf@E+`WEuh`cZp1!axsT<2
YOXZMNDtPCa4B?ymW{sgaIUUMz(ODPG@agE4zp^FKH{1XGTu3N`F)hFiut(N26{5I1`LGhgCwUL#s$!P9R1vR1i%Cp1wJuS2JsrA8R!^xPLT
hkRc($A|{!oz-)Xdlr&`pjUo<n87043s5THyTp%=Ml0Q<E7JMA9A9j5ZB1U+3W?;f$6&sQlu^>52d;!8QZ^R22W(gNWx2_|U0%F1ts9%4Ppj
J(xO<+rfAUc?rbif{VdzwhNagqisOFBVWHLk?1v`j&hFkl68I~Ow^nPqd1L}rNuN{=RnloP#MbvajqiKL-DXGW|V0c)~_FsYRrrX4MNc4m;N
m1e3R7<Fr9L2?ozX^|`uWq)|6Fnhza6ta&VqpX~ft_dP~p0#K^pqN6fM1)DRHJo%xi4r<wi;<NLAUjo1TXm(0o<%Gp94A7vp^AkB8$hWRFr;
!%vb<cP6@0Z8IT|b|xxuj&OEeQlUuAu_7X)oNiG;$0U2wX*t_UJ}rFUKuvQ|b!cyB~$cz!Yv2u+qlE^7feoC2&sKvzDGpsyJk4+@lJXrjZzZ
y6OOnH*eG5{V|lZe~Plxe<mdhCa57p{WOId42%{N|hZ#Oc`NQr-*K<2no1wC$?B)d?}ecRgxvdx_A{=j8=IP!8((8r?AADRUtGKj)zYizo8y
6pEJ9`nj<cIVtx%eGlH)@y9Yp76hnM*Fqy7felZ&?R(4w%1v^M~zmka!9eRr+i-MP6P!5@ov=vh#wtZL%ZA6e)nQa4yELOR8kZg8`o<l?&5^
SYyA*+N}nw3E$Jyv%vu~}emxuC2kxT0BNO(=p+P)-v9Et^m|R5n+4EgfoUD}RL*Sd>wQ7_F{H!xyAzT}_g)aA7?@3361IbFH}yR5P%014D2?
Cklp9Mh;dHUbsWA1~QdQKvz^^nN4h$jC?-~yIR0e4{026z!#+tJZhw%PFYe*4Y@jM31N*=9K2zYq&XlEmq2c;Oi}}7i-9>*0tE+0I}J~nZjW
CWBxp!ht|q(`Q+Og`p`|z#Ol+)qkR`fszBO~OQDUxbIjk5{A1PgxbZ4V%fJn0tUW{Z|f2l5_#0CX8xV~;ZkUW!jmWNcAri;L-a~y4GT4+8Qg
AQdhgb@iG3?xftotu-xdp}7oO_m)dDOwdad@(u_3^AP-F|(FEahbSFBy%*eAE>UXop+LFI<hD(U8kgEUvXjsq;(oNiejTms!IjLEOER6Pa!j
<Swv1zYr0CnW<YGJNW`8iV!}(53?7h4TX#%!Og}zI43rUvE~q&xR*ixV1x*bQC7nyOKQWMiJvatR1fsOAVk8E93$tadmVHP&Q<Sp3O-o-UvQ
|iuLOP6rHcLVdxRHmrW1p8*ycE8g#C=(yg=#CUGcGV`trQ_fZh@nsQLL$cZGp8f!97zR2spNtz<VKEp|iiTp*t`E2_6DdX(SMxUv(KuizPg!
6p3R<YXhS^zfC`0oElzRx~HADlxJN$p0EUha0L!n6Jo<Waz&g8x+JBEqbMd@Tz#0c!CI@Z1zk2`Lx>owlDZ_Mnl^V~eS36)3IrE3UrnNIx?d
xxyul`vN^cl+8JK*hs*VMqUr2abgLyuHsW1<ezl3%|Z*GFMEOu}MvpRS_6h~xXvKvA$1bPfH1GQFCo+K-3!5@_%B4mvVII>y6d8Gw#cTF~Al
uR3_uzwGxQx{wdn^!lrqaF`QJ*IG04K{DVbr!;2b*D&e4N{goAp{9(1VRKLD{g(UQLsW)5gnC`v!JwvMxLl*28IGu7-G6&D1?v1j4p&!y-yF
fDW)(Z4v9E~WFlLupd%^2tEHPiS8l@xdb0>`4G>ZX0(X5y5Pz3DrKcoVS1wV1v8*apx~C;z#4|}0!l)*B8E8L4F`Glcv$aJUC6!oxd%6^{og
YjuO`>@-M{Njfo4^xQx@BC6Z3<na0i<1}U}qzSJ{^fErnG=KkcvYTDwkBS1r4-XEg7o9D?}D@5Wjm<D}WL!wZ9T>em+)T7NRsx7EU6dQVA)F
8w*lXd#!gYNV)`4Dz>c`dX#6flp-!GeMdS&tRuH?mA84BvYUY&cM?07fD09kS1B*6eY^z(5KxdyrMGcereO$h8%nd1Rhzr65g?*m0whJPIE)
lHBbpAUW>;5jGIzmlRV6qo3uS4uRBM_Yh#{M1Zl(xjS~0(oL8y#yypfN?2o8{7z_b>>J%y`TUN|U3m^lOnreLl`!b><;AY&CKyKuWYQkj&zf
?0J&r5t3xrb4kl1*&cpj8!$2UsOOz77Z&yQD+G<wh4)b96y7>Oa@|V5Ms3_A-+;YReoC}M!08%m;zh9h@neNcoRpKK8h2QhkRr;9*3+{ooNO
i5iqT<799*ka%Pjne_M|UIV5Z$Jry+?WPgxsU}25GHx4dJn6M8GH50)o1}#Jo5eovMQ<|a!j4+vAK&HBn#4vzQ!eWY!dIu0phP?!RUVLgqn}
A#nkdtAwo0dPT28n)fs19tT8hg7Jl{#Vx78yM_T!bTkSq>SAw-|j3I<}-1Crw);t_m1RxKyhrYf62&A~bNBUU364xf}w42E;YN0}Fz;ffy8&
ij+JUhHidDUc^(eL0v&e3rb}-52j~}hp>RUg*~@kmA)`~HIJVuWxl5|JV_uHy{4O`YbF6r!brD#tCk}a9d~<<AFV}yL{Dc&1(S9L4?cLLqlq
g)cxI%65WksP5v+bdy&JVsq(Z~Qazj#Vq&PdizoWxGNQ(lzw+>ODjU|LKU3(gNTU$@89vp{Bo^3dFTOXYjI9*YZRAGB#O;0`~Q6yvmw?G#l6
IgO{y>B6PRKceRF<2MFfWK2okh5{I2OD-a8n!TDle%n(KeU~1mR?dun30s5EM-7}JcW}@G*h-N2y}BppDI(p9iD=RfRm@BIv;y+xOS^<fVO&
rAx^a$w>1yAT8EahSzktRf(ucffK?!*t*=ZHp|)&6u{x@KvIt6fKnf6Ml};3-2!d^PJ&li0AFOIYV6<RCcXz@FkUOT5NqKw*SdmS&sB5!kbV
_t<6j64+50fhbS3(GUL@kR4tDj?JgiJ|JWNE-UmL5Gp8BRF8l7vsQx^ba9qpe`8NUWf?Gj(qZY9yIuVw<T<ojIhecCJMUPdarF6}q7@YgVP2
KW-m+x<8UCWI<xKv@N-kjRhoITWoN=HBX{61VbZXE0V!98N(Ae#GtLWkTGdUd_R>wTOcK&O^^%`OsJo)BMN%7Rg07bUpi(8Z?GqUE@YsRO_w
=KPadG2gh86TvY~Zanv$Z1Uych7Pi9xVkRhSAId(-onNt~d!)Or=E2W@9IA*60sW7mDCsjITv5#0%9|eCOZ;Kf@T{gWKeFS#}VFD(vQmu@Q2
nh&q46=kBx<Z0_96xi12?+#EZoitJn0Y6DaA9bUQoki)rHd<$48w<Y4#G%~V5?vOX22dB5i=YLFq^wDj(2xEfwX;gLN*eyv8Q!Xx_W6RvjKk
?6t}q_adWo=Jw8KSi6Ra{YFdK66;Y;wfkJ8rp+*a7D#Kn}aB?$Iib|YEMnjmbLLvvXh-b2*xJwbfx-wB4sFrtftQG|eL6f+WK`*JKzksS_uy
%Vj0c;MG8J(jRYeq4TFp7+WNSJ3#6)6U7B%e_fX|Zu$ViPv2cpgM(hp0=mK_z~CfJq>JN^?I63A-a$CaHLS6sejZAU~IbE+c3XohT=LcnOeX
4#1^=G!b<oJGPU7n5Qs59%Ly@r#7u%A|EHfohB(?a!;>>XLp$&RWG7zP;*6my%ZsCmK}_rw;io4kR*l!G7J`qJ{g>%2blqGZzxn82Ap4_TWb
#@7<7SWMw?X-v4w}Ss%DFh3r()JwtRAG9G{(`s4ui*rU5y`hG0Xxc4!j_87wGTUSCK85Nw1vxJp4ZkYZJyxn_o*r)X}wrC}m#YYkbYq>~UUZ
;&Q&Dv1z`wW*y*i&kkDp$JG5A{%aC5mzjjVmGi48?nBDnwhhMvL8~PpTw&sC4(lxe<L@4k-?XNb$EkjETDUKOKE_7gC1{4vkY2Rb0ri>EoUO
bJ)BQ2bhV5}ppgo?d5OLpC;_EMG(&f!f^xDMSO&g>z*?IME*E42v^1q*1R-dIVrmU@b1D-nCQURZXHFTH2WOv8GeQkw7Y`${vl?@8izX_Wpp
t8Nq*Y##9(|Z>x0PK&Y87z~yHLc!d=y|Z1em-97FL@eor`Q~g%6rKKU@kGEE%f}l@)k9kd=5JmnU*-gA^vVta`3Q!f3;>BSyPE5l=m{5osAy
aB^yIl3hDBj$f*82aI=$VX-Zpe5`&qT%oiSOHa2ylsu|}MMZG|vKd}rZJkBHkhe)?!;NHDwtZNC#BQ^NH*LOOUwa+HWhMf!0z3?v4h}&VMY|
FeAw46Sn<tJB1GcAjyOWr(Xd_v|ik1S1k!FdjVV7tKO9=#kK_`$ca3KwzM0a+$qr7zlsS&w9CmN|X14mJ?COv*TC|G|TW+ww%2d*uI4Xmk)c
X$(LymfS}nhL=|aW<lV2rqcTb4epLeF=A5zz4gkt8sr5vBVuRmuRMgbR}IJ1c96rp1gol7pQPcy{==qGq`1G85U%77^7f8Z37cGJ;6k?uPq^
W96Ci4MqoyzD=3swZ)3TDW}qMuafGNbqfjD88FQ>yA|ghhqZKo~v}tutQf6wtQm=AaUBEY0g0!ZnorH8_VvV?JWg3G|6&AjDjjV@JLVdcw3z
$@Tum~Yku(m8O94tXh1BxRlhhCCryi_?ZH>*#bs#&u&p;-tXJReIFc5+%0ltKz&p{KVZoEr_Nn|5a&QV~R{msFZOdu=KnGLpY#aa~|-uRx3&
ZlQFxmb0%5!l#o@vp=et9viEQlW0LFn7+Ih5<D3wavf=%S{!V20a0Z*nqYKyQn^uRX)6XgtrnM!rm4QIO;;^fAyt|fgp@)sbO|V_bu=rtGc~
Dt6eBFXV;ZZ05_(Np5eg(4RVi9Yk2{P^88%*Vh^v>9E;T?mG_pRCPlucXy|s5$aRH2+d@?^Rtx+jXVZKdaDzbJZg0Op$yq_$UNn~zWsXP)$u
b)|6oE*8Epo?BDb`U86W_O`VK}I`;TQOiQsX>M_2wa~RSzC;OjwDw^JtH-zJG&Y(!%BQVrf^=qs*_(Pfw!=>4uWn>CUky&C{Q9M5-U}>Cuk^
{Asb<vG)Q)6P#G9i9l?DcE4_YVC5(KNc^SU1cXh2832II;c(I8Fn*(Z!0ck7{dYoA)egeKXbZLG%SZAt<zC?L5KP((DNRYR7V6=$5Xn}rOQ=
+OB6pjNCIddr&m%5vKz+41%EV(;N929hfT9-sHKartLGOC|fun1?wDkq=}piL8a!(^PhX<S+ikX^b6PCFnhMjmBDNpL4}5TJM?f0}|ytevGf
GDIc;cWg_Ga=C&w0$GAZibM~?nu`-ES#TvRlpD1op`~I`on1f-8-Yuxs}qK#RA>a0k%>{h7Hk?vfGNR#wYY~yi+oi&TqCzKKx4uvLZWU^aag
M}QHDrQlQ4#?1WZk9xv3OweRnQaOa}pam1hidLpMCR8Mm5KK>@W(kx2$hDQN|Bk(OD&ZD25k7KM@qGMzP9b{r%iH3+W{SAw=MvL!NNDNuk?X
e)IQFC-3X7ZpyUDI&HPX^;xDhkHQ=Qhm2t8K#&ZJ}-27qm`(_R{?!#8h>X>2RK-_Nq~@_6D59Jt(b8+zQM4EWNQ)yaicW_SRNm(oCIl>Hexy
@2WydE1vr&cADLfRM2cZ-gDGMIqkEG~Ra_H!dahT&nX$hYG){)7m12aUQ#v?GM=o1fLK1zUtU0-cESj@8#I*^2F*T5&33Xv*Z8sbRjlFO!s*
NW$vwoqEW^sjlCj)(pxlksLn0TwakfLpFp#-sAiXygblC>}s3%itycSw-6Ou-*Ra(YZymkp(n3W|h9EgeKzUchm2#7izzLwCcbo{SfRQ)99R
cc+Vc3LS-EwoP}ifMspFek5{-Xhu+>EL4j+7M4;&K{gBnsRyboXN0e-NtTK>3kWBwe@;miMFt6XMWmu|6&6NWD>PGo6Ihis8)hKFzKTa$7&S
W)jtv5_y&NyNL48247J(>wz791rH%w|q8EI2fY$03@eYXdxAeeu|ZxS|0a0GA{kUeuCk*|CLX?JrwZ8NIFBd#ndm$#EenR!45F%U;(Y)oF3C
#H|6QM{4{q#z&?F;6_EhH9R*y}Sw_6cv+%j&=z-myBR%xldY0Jz`QGuBDBWFESe$7O`mzX0KW#E+I7)rUoy4m#B1skwU64DZ5jXh8kRyZcsL
+6imTfiE&6)d0zt?lXr&}I3mPzZBkH)M4mn<vrGy|iv?<^w-!7-EC|2@w16*ck5Z>66)&7xl4EcxJ40DjkA6LsYDj8@cWO2RYKXw5zLXzsau
$wUBNV0x0YkQDq@)6&v4@DV4vJSwFa?nqd7hC+4zvs?qCPT9l)Jf955y9(5}SQTi*g-ER8Kpb9yw)Jwrm|Aa~qloqC%9AQa51?ata`llV!1U
TNEl8Jc}Nj357Q>JeIPGZjM)fksiT~TTgvVH->vp9!3#f8mEORClrnsiL+3`lU!|VxK(k36<|j+iUXQbl~-k_u8yq_P-KU$s+A3hSuAH<C9h
Dib`rXq3%r61n|P04r*?&nGp$8gUmSFx0mLQ}GhrNViy})%wUZVfb+2Yx9#BUMzXT&Y5Oby@UN94B2X>8Cbi%?pdro_Qz)m(1Ka6acA}wk&L
^D>CI}c*Ni=1ntM{8@HR=E#OVV_|wC_H{LsE`&pbqgU;13XTirZk^un-C!`tstJbc0@p;pc8T%l^wuuvOcgtcPJceDsOJ7LTqT7JV`n#2UP~
P9R>rX!GDFPh+KNTmqH?kg-`@RBsLN=Y-pI1g~XY(NDPjJVXlfx5(I}+q?Ki)Xl<2ks8x|7S%IxCFR4H;KrnD~3|wShN~u#`S%s$`V?v)rK^
VMRJ{%xXIC)Wr9&3EC5R$(;CkO$%mZ?&IDI<isr~zXklad!LS#^YZw?BQfu(Avwj!+;I6Qz57Uz3SUMSg~iJWh2=hKyfct52YZk1rStGFYx(
z5{!VK7a>~D<oB}io2u0N|zx7og<ft!(CLe!JfRd4pl-{RE`o7Dhf+GAa0TayKPD=Q+TYlm%+BeI7T54sJu^O!?k%&A%8oBsCW*#IW={IQC>
GgDTTR%LaYok!B&B*1a)7mmIW=uRKdiozbl4tuyF)yUTByQIg1HFmsM?`y;C?PNn!>#S&RW;tTipR5~nN>P(VDy8c!FIqp_ucFsLPouRok?f
iO>}fl^`{N<N=4GB1{sHA@gP#4}sJNSAV}IE^w$kF~&B7))VW9<E`RPZ&c`RS}$<G&h+ITpBlG9W<4iinXmlG7dzPY#3J{kHn6ae=7<ytX)A
<ETpck!wZ9Ta6ewHlPoTaU`erIGE1Dcm9til!oV)DxNaYpl(bJ@R1cQD60;$(t7mImBALKi1cL)bGX|2h9XqNdEor1gZ6Pa04S2%=cx{2C8)
c0u5u<?ykF+*XrNTi8bp*J5CYzC@Lr=DEogtE%9;Sk6yh0DTk9Z?-n@>@hRCz87rj4_GLY$$eH+&rgkt%^nc%CGTdtOZ>4lW^L2fdSXgAr<a
tt-DnSXF35UwKi$EM}{^A9;_hETOXoQAto-8?v#%Nt%=<Z>_zAp<B3ctP{RTqL{CDW^OrP2e6%8aFniT9Zhw3tHhi#W;>)xG!<W*royZSK6^
@pnZGSXTxd&_kuYyKpcoSxf}mff6^VwV7{Hh^qB6uI0$p9gCX=5^Yj;F3WHU-&QK5(gymYILFCt%FH>`J`xDYt4Y`3$gZ5X{Tor6A}fR9-$z
j!f#O*nNkwZNSMfPqCSQUPByKC5GEQZ=s)sFzYkU9erVcagh>zAKuEXCG{<j!Z_Pm7#+k1B@g>q7ea>cMK>6K?aIf9GH!tcNh%~YGVN+B#KG
9M^KYFr7{r;i@Z-HKwb-)7<CqRk05!GrZ#zmlyjCPn?AvQDnCDILbh^C7bT>E3JiO`fm&ZzW;QJdH??$8sHDBSRhLgZo4TrDb*7-BOCUplnK
ZH}H+2PYE-rVO1AJAx5w*Nd#G`N#
""".replace("\n", "")
)
TRAIN_LABELS = [number - 1 for number in TRAIN_CLASSES]
